"""Messages requests at Anthropic: the client's body and the provider's response pass without a translation.

`request` is the body that is sent. `response` reads what the gateway needs of a message or an event, and `stream`
checks the order of the events. `conversion` makes a stream of a message and back, if the server sent the wrong one.
"""
