"""`make chaos`: load on two gateways while what they need is killed, frozen, slowed and filled, one after another.

stage.py     two gateways that share PostgreSQL, Valkey, OpenBao and two providers
faults.py    the faults, each a context manager
load.py      the clients, and what each of them saw
books.py     what must hold afterwards: records equal what clients saw, limits, gauges
run.py       the order of a run; report.py writes the table of docs/resilience.md
"""
