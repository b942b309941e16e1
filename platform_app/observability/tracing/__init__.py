"""Tracing: which requests leave a trace, and how their records leave the process.

trace_context.py   the caller's trace and the gateway's span in it (W3C traceparent)
sampling.py        which requests are kept: sampled at their start, or failed or slow at their end
content.py         prompt and output for a trace, if the operator opted in
kept_request.py    a kept request as one line of JSON; the exporter's process reads it
sender.py          writes these lines to the exporter's pipe, without ever waiting
request_tracing.py  what the middleware calls at a request's start and end

Spans are made in another process, apps/trace_exporter. Workers import neither OpenTelemetry's span SDK nor its
exporters (docs/adr/0033).
"""
