"""Secret stores: where the gateway reads credentials and the pepper.

One store is configured, and no other store is read when it fails::

    configured.py   settings -> the store that they choose
    cache.py        the store's values in memory: refreshed in the background, served for a while when the store is down
    usable.py       whether a value can be used
    env.py  file.py  aws.py  vault/       one store each
    base.py         the interface SecretStore, a secret's name, the deadline of a look-up
"""
