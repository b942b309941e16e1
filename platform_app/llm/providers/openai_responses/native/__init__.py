"""Responses requests at a provider with the Responses API: the body and the response pass without a translation.

`response` reads what the gateway needs of a response or an event. `stream` decodes the events, and converts a stream to
a response and back, if the server sent the wrong one.
"""
