"""The HTTP/1.1 server of a worker: sockets, request heads, bodies, responses, and the bounds on all of them.

The way of a byte: `protocol.py` owns one connection and reads from it; `head.py` turns a request's head into a
`RequestHead` or a `Refusal`; `incoming_body.py` finds where the body ends; `exchange.py` is one request and its
response, as ASGI's `receive` and `send`; `connections.py` knows all connections of the process, keeps the bounds on
their number, and ends those that take too long; `limits.py` lists the bounds, and `refusal.py` has the responses to
what breaks them. `reader_rate.py` measures how fast a client reads, `memory.py` returns memory after bursts, and
`write_coalescing.py` joins the writes of one turn of the event loop. uvicorn keeps the process:
sockets, signals, lifespan, draining (`worker.py` of this application, with `listening.py` for the end of its socket).
`state.py` is what the process says about itself, `heartbeat.py` its sign of life.

Nothing of one request may become part of another (docs/adr/0023). What is not exactly one well-formed request is
refused, and the connection ends.
"""
