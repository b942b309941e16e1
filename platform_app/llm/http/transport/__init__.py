"""HTTP/1.1 to providers: a pool of connections, and one response at a time on each (docs/adr/0014).

`pool.py` gives connections, `connection.py` speaks on one, `response.py` is an answer while it arrives, `target.py` is
where a request goes, `resolver.py` finds addresses, `tunnel.py` opens tunnels through a proxy, `tls.py` says whom we
trust and as whom we come (docs/adr/0029). Knows bytes and deadlines, and nothing of models.
"""
