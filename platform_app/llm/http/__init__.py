"""HTTP to providers: requests, responses, timeouts and server-sent events, the same for every wire format.

`client.py` sends one provider's requests over the shared connection pool, and turns every failure into one of our
errors. `response.py` reads a response with timeouts and size limits. `event_stream.py` reads a response as a stream of
chunks, or as a whole; `sse.py` parses the events. `timeouts.py` has the deadlines of one call. `transport/` is HTTP/1.1
itself: connections, TLS, proxies.
"""
