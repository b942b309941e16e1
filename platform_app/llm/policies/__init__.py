"""Policies: what happens when a provider fails, is slow or is overloaded (docs/adr/0010).

Each policy is a class with one method, `send`, and wraps another Upstream with the same method. `chain.py` wraps them
in a fixed order, from the outermost to the route itself:

    FailureMetrics -> Deadline -> Fallback -> Retry -> Breaker -> Concurrency -> ProviderRoute

`failure_metrics.py`, `deadline.py`, `fallback.py`, `retry.py`, `breaker.py` and `concurrency.py` are these classes.
`choice/` orders the routes with a weight. `failure_table.py` is the one table that says which error is retried, which
falls back to another route and which counts for the breaker. `state.py` keeps breakers and concurrency limits across
changes of the config file.
"""
