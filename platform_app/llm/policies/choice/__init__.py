"""Which of a model's routes with a weight gets a call first (docs/adr/0043).

    session_key.py    what identifies the session of a call, scoped by the key's owner
    rendezvous.py     the order of the routes for one session: the same in each worker, without shared state
    route_load.py     the load of a route in this process: calls in flight, time to the first content
    strategies.py     weighted, least_busy, latency: the first route of a call without a session
    route_choice.py   the order of all routes of a model for one call

Only models with several weighted routes have a choice; a call of another model computes nothing here.
"""
