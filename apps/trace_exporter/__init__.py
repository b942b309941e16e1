"""The exporter of traces: a child process of `flowbiz-platform serve` (docs/adr/0033).

Workers write kept requests into pipes, one line each. This process reads them and exports spans over OTLP:

__main__.py       the process: signals, priority, the order of its end
pipes.py          reads the workers' pipes line by line, within a bounded buffer
spans.py          a kept request as spans: the server span; attempts.py and hops.py make those below it
texts.py          texts of clients and providers, as spans show them
conventions.py    every attribute name; GenAI conventions or OpenInference
pipeline.py       the SDK's batches and OTLP exporters, by the standard OTEL_* variables
environment.py    the OTEL_* variables, as OpenTelemetry's exporters can use them
grpc_exporter.py  the exporter over gRPC; imported only if it is used
responses.py      what the collector responded: redirects and rejected spans
counted.py        counts exported, failed and dropped spans, and logs why exports fail
exemplars.py      the latest trace of each bucket of a latency histogram

This process imports the SDK and the exporters of OpenTelemetry; a worker never does.
"""
