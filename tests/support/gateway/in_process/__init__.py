"""A gateway without sockets: its middleware, model routes, service and adapters in one event loop, with scripted
providers."""
