"""Idempotency-Key: a repeated request gets the stored response, and its work is done once.

    service.py          IdempotencyService: run the request, replay a response, wait, or refuse
    in_flight.py        InFlightRequest: holds the key while the work runs, then stores its response or releases the key
    store.py            IdempotencyStore, the interface, with its results and quotas
    redis_store.py      the store on Redis; record.lua is one atomic step per call
    stored_response.py  a response in the form in which it is stored

A record is either held by a running request, under a lease that is renewed, or contains a response.
"""
