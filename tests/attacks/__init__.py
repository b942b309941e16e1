"""Attacks over raw sockets: every request gets exactly its own response, or the connection ends.

`corpus/` holds the attacks as data. `test_direct.py` sends them to the gateway, `proxies/` sends them through nginx,
HAProxy and Caddy. `differential/` compares what the gateway reads with a strict reading by h11. `test_fuzz.py` sends
seeded random requests, `test_turns.py` covers exchanges in which both sides take turns, `soak/` runs
everything for minutes beside a legitimate client. `bounds/` attacks the bounds on connections and memory;
`tests/integration/http/heads/test_edge_bounds.py` has what a client sees of them. `raw_http.py` is the client that
the others share.
"""
