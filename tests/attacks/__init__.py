"""Attacks over raw sockets: every request gets exactly its own response, or the connection ends.

`corpus/` holds the attacks as data. `test_direct.py` sends them to the gateway, `proxies/` sends them through nginx,
HAProxy and Caddy. `differential/` compares what the gateway reads with a strict reading by h11. `test_fuzz.py` sends
seeded random requests, `test_bounds.py` checks the bounds of a connection, `soak.py` runs all of it for minutes
beside a legitimate client. `raw_http.py` is the client that the others share.
"""
