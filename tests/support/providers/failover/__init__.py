"""The sixteen scenarios of a public failover benchmark, rebuilt: what clients and providers see of the gateway.

`scenarios.py` has what each provider does and what is checked, `faulty_provider.py` does it over raw sockets, and
`verdicts.py` turns what was seen into a verdict by the benchmark's rules. The verdicts are in docs/resilience.md.
"""
