"""The sixteen scenarios of a public failover benchmark, rebuilt: what callers and providers see of the gateway.

`scenarios.py` says what each provider does and what is checked, `faulty_provider.py` does it over raw sockets,
`judging.py` turns what was seen into a verdict by the benchmark's rules. The verdicts stand in docs/resilience.md.
"""
