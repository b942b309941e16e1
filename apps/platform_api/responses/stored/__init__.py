"""Stored responses: the ids that clients get, and the routes that read and delete a stored response.

A provider stores the response. The gateway stores nothing: an id names the owner, the route and the provider's id, and
is signed, so that no other owner can use it (docs/adr/0042).
"""
