"""Observability: logs, metrics and trace context.

context.py        RequestContext: what is noted about one request; it ends as the access line
logging.py        structured logs; logs/ has the parts of their pipeline
metrics/          every metric, and values that are cheap with several workers
request_metrics.py    counts a finished request in all of them; outcomes.py says whom its end concerns
tracing.py        W3C trace context; ids.py generates ids
exemplars.py      traces of exported requests for the buckets of histograms
provider_call.py  times one provider call; own_stalls.py does not blame dependencies for a stalled event loop
networks.py       which client addresses count as one client
"""
