"""The bench: the gateway's throughput and latency as ratios to a bare pass-through in the same run. `make bench`.

__main__.py     flags
compare.py      starts the subjects, pins each to a core, alternates rounds, prints the table
load.py         the load generator: wrk, or a small aiohttp client
passthrough.py  the bare FastAPI + aiohttp pass-through
"""
