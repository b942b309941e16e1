"""Attacks on the bounds of the HTTP server: clients that take nothing, or send a head that never ends.

`edge_server.py` runs the server in process, on the event loop of production, with a clock that the test advances.
"""
