"""Observability: logs, metrics and trace context.

context.py        RequestContext: what is noted about one request; it ends as the access line
logging.py        structured logs; logs/ has the parts of their pipeline
metrics/          every metric, and values that are cheap with several workers
record.py         the hops and attempts of one request
request/          counts a finished request (metrics.py, outcomes.py), and each provider call (provider_call.py)
tracing.py        W3C trace context; ids.py generates ids
exemplars.py      traces of exported requests for the buckets of histograms
event_loop/       timer.py measures delays; own_stalls.py has timeouts that a blocked event loop does not expire
optional_modules.py  leaves out modules that libraries import if they find them
networks.py       which client addresses count as one client
"""
