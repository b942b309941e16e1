"""The Redis client that limits and idempotency share.

`scripts.py`   `Script`, a Lua script with its SHA-1, and `ScriptClient`, the interface that runs scripts
`client.py`    `PipelinedRedis`: one connection to one server, which all requests share
`cluster.py`   `PipelinedCluster`: one `PipelinedRedis` for each node of a cluster
`clients.py`   creates the clients of the servers in the settings, redis-py's own one included
`tls.py`       one TLS context for all connections with the same options
`failures.py`  the cause of each error, and which errors condemn a connection

`ScriptClient.run` sends a script at once if the connection is open and returns a future of its result. Otherwise it
connects first. Callers do not load scripts: the client sends a script's text when the server does not know its SHA-1.
The client never retries a script that may have run. It replaces a connection whose server no longer serves (READONLY,
LOADING, …), and then sends the refused script once more, because a refused script had no effect. What happens after a
failure is decided by the caller.

Two parts of the gateway use redis-py's own client instead: announcements of key changes (pub/sub) and readiness checks.
"""
