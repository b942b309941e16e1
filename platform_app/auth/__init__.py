"""Verifies API keys and says what their callers may do.

A key as text is a token: `fbp_<env>_<key_id>_<secret><checksum>`.

    tokens.py          generates tokens and checks their form without I/O
    authenticator.py   token -> HMAC with the pepper -> cache, or one SQL statement -> Caller
    cache.py           verified and refused keys of this process, by HMAC
    pepper.py          the HMAC's key, in several versions
    caller.py          the verified caller: owner, scopes, models, limits
    permissions.py     scopes and wildcards
    throttled_lookups.py  looks up the keys of throttled addresses together, at a fixed rate
    throttle.py        interface that counts failed authentications by client address
    keys/              creates, changes and revokes keys; publishes changes to the caches of all processes

A changed key is dropped from every cache by an event. While PostgreSQL is down, recently verified callers still work.
"""
