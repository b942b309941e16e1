"""TLS to Redis: the trusted CAs are read once for all connections with the same options.

redis-py makes an SSLContext for each connection, in the event loop and within the timeout of the connection. OpenSSL
takes 20 to 60 ms to read the system's CAs, which is about the default of PLATFORM_REDIS_TIMEOUT_MS.
"""

import contextlib
from typing import Any, cast

from redis.asyncio import ConnectionPool
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import RedisSSLContext, SSLConnection

from platform_app.config.reading.file_stamp import file_stamp

MAX_CONTEXTS = 16
"""More options than a process has; beyond it the oldest are made again."""
_OPTIONS = (
    "keyfile", "certfile", "password", "cert_reqs", "check_hostname", "include_verify_flags", "exclude_verify_flags",
    "ca_certs", "ca_data", "ca_path", "min_version", "ciphers",
)  # fmt: skip
_FILES = ("keyfile", "certfile", "ca_certs", "ca_path")
_contexts: dict[tuple[object, ...], RedisSSLContext] = {}


class SharedTlsConnection(SSLConnection):
    """A connection whose SSLContext is that of every connection with the same options, until one of their files
    changes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = _shared(self.ssl_context)


def share_tls(pool: ConnectionPool) -> None:
    """Let the pool's connections share one context, if they have TLS. It is made now, before a timeout runs."""
    if issubclass(pool.connection_class, SSLConnection):
        pool.connection_class = SharedTlsConnection
        with contextlib.suppress(OSError):  # a file is not there now: then connecting reports it
            pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py


def share_tls_of_cluster(cluster: RedisCluster) -> None:
    """Like share_tls, for all nodes of a cluster."""
    options = cluster.connection_kwargs
    if not issubclass(options["connection_class"], SSLConnection):
        return
    options["connection_class"] = SharedTlsConnection
    for node in (*cluster.startup_nodes, *cluster.nodes_manager.startup_nodes.values()):
        node.connection_class = SharedTlsConnection
    with contextlib.suppress(OSError):
        SharedTlsConnection(**{name: value for name, value in options.items() if name.startswith("ssl_")})


def _shared(given: RedisSSLContext) -> RedisSSLContext:
    """Return the context of these options, with what redis-py has read for it."""
    key = (
        *(_hashable(getattr(given, name)) for name in _OPTIONS),
        *(file_stamp(getattr(given, name)) for name in _FILES),
    )
    context = _contexts.get(key)
    if context is None:
        given.get()
        while len(_contexts) >= MAX_CONTEXTS:
            _contexts.pop(next(iter(_contexts)))
        context = _contexts[key] = given
    return context


def _hashable(value: object) -> object:
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value
