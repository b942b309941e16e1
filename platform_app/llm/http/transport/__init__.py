"""HTTP/1.1 to providers (docs/adr/0014): bytes, connections and deadlines. It knows nothing about models.

    ConnectionPool.send(address, head, body) -> ResponseStream

`pool.py` lends connections: it keeps idle ones, opens new ones and limits their number. `connection.py` sends one
request at a time on a connection, and feeds the response to its `ResponseStream` (`response_stream.py`), where the
caller reads it. `target.py` turns a URL into an address and a request head. `resolver.py` looks up addresses, `tls.py`
has the trusted CAs and client certificates, and `tunnel.py` connects through a proxy (docs/adr/0029). Every failure is
an error of `errors.py`; `failures.py` says for operators why a provider cannot be reached.
"""
