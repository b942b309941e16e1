"""The schemes and query parameters of Redis URLs: what is accepted, and a remedy for each of the others.

The names are those of redis-py, and those that other clients and frameworks write into such URLs.
"""

from types import MappingProxyType
from urllib.parse import parse_qsl

from platform_app.config.connections.url_parts import url_parts

ANYWHERE = frozenset({"client_name", "db", "health_check_interval", "password", "protocol", "username"})
TLS = frozenset(
    {
        "ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname",
        "ssl_ciphers", "ssl_keyfile", "ssl_min_version", "ssl_password",
    }
)  # fmt: skip

SAME_SCHEMES = MappingProxyType({"valkey": "redis", "valkeys": "rediss", "valkey+unix": "unix"})
"""Other spellings of the schemes that are accepted."""

_SENTINEL = (
    "Redis Sentinel is not supported; name an address that always leads to the primary (a Kubernetes service, a "
    "managed service's primary endpoint, or HAProxy with a check of the role), as redis:// or rediss://"
)
_CLUSTER = "write redis:// or rediss:// with the address of one node, and set PLATFORM_REDIS_CLUSTER=true"
_TLS_SCHEME = "write rediss://"
REFUSED_SCHEMES = MappingProxyType(
    {
        "redis+sentinel": _SENTINEL, "redis-sentinel": _SENTINEL, "rediss+sentinel": _SENTINEL,
        "rediss-sentinel": _SENTINEL, "sentinel": _SENTINEL, "redis+sentinels": _SENTINEL, "sentinels": _SENTINEL,
        "valkey+sentinel": _SENTINEL, "valkey-sentinel": _SENTINEL,
        "redis+cluster": _CLUSTER, "redis-cluster": _CLUSTER, "rediss+cluster": _CLUSTER, "rediss-cluster": _CLUSTER,
        "valkey+cluster": _CLUSTER, "valkey-cluster": _CLUSTER,
        "redis+ssl": _TLS_SCHEME, "redis+tls": _TLS_SCHEME, "redis-tls": _TLS_SCHEME, "redis+rediss": _TLS_SCHEME,
        "redis+socket": "write unix:///path/to/socket", "redis-socket": "write unix:///path/to/socket",
        "redis+unix": "write unix:///path/to/socket", "rediss+socket": "write unix:///path/to/socket",
        "tcp": "write redis:// or rediss://", "tls": _TLS_SCHEME, "ssl": _TLS_SCHEME,
        "http": "the gateway speaks Redis's own protocol, not a REST API; write redis://",
        "https": "the gateway speaks Redis's own protocol, not a REST API; write rediss://",
        "memory": "the gateway needs a Redis or Valkey server", "memcached": "the gateway needs Redis or Valkey",
    }
)  # fmt: skip

_TIMEOUT = "use PLATFORM_REDIS_TIMEOUT_MS"
_POOL = "remove it; the number of connections is fixed"
_ONCE = "remove it; nothing is sent twice"
_BYTES = "remove it; the gateway reads bytes"
_FIXED = "remove it; it is fixed"
_IN_PLACE = "write it into the URL's address"
_VERIFY = "ssl_cert_reqs and ssl_check_hostname say what is verified"
REFUSED = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "socket_connect_timeout", "socket_timeout", "timeout", "connect_timeout", "dial_timeout",
                "read_timeout", "write_timeout", "command_timeout", "pool_timeout",
                "connecttimeout", "synctimeout", "asynctimeout",
            ),
            _TIMEOUT,
        ),
        **dict.fromkeys(
            (
                "max_connections", "pool_size", "min_idle_conns", "max_idle_conns", "max_active_conns", "blocking",
                "connection_class", "connection_pool", "single_connection_client", "auto_close_connection_pool",
                "pool_fifo", "conn_max_lifetime", "conn_max_idle_time",
            ),
            _POOL,
        ),
        **dict.fromkeys(
            ("retry_on_timeout", "retry", "retry_on_error", "max_retries", "min_retry_backoff", "max_retry_backoff"),
            _ONCE,
        ),
        **dict.fromkeys(("decode_responses", "encoding", "encoding_errors", "legacy_responses"), _BYTES),
        **dict.fromkeys(
            (
                "socket_keepalive", "socket_keepalive_options", "socket_read_size", "socket_type", "parser_class",
                "lib_name", "lib_version", "driver_info", "credential_provider", "redis_connect_func", "cache",
                "cache_config", "event_dispatcher", "abortconnect", "allowadmin", "virtual_host", "prefix",
                "maint_notifications_config", "read_from_replicas", "readonly",
            ),
            _FIXED,
        ),
        **dict.fromkeys(("host", "port", "path", "addr"), _IN_PLACE),
        **dict.fromkeys(("ssl", "tls", "ssl_enabled", "use_tls", "usetls", "sslmode"), _TLS_SCHEME),
        **dict.fromkeys(
            (
                "ssl_include_verify_flags", "ssl_exclude_verify_flags", "ssl_validate_ocsp",
                "ssl_validate_ocsp_stapled", "ssl_ocsp_context", "ssl_ocsp_expected_cert",
                "skip_verify", "insecure", "tls_insecure", "verify",
            ),
            _VERIFY,
        ),
        **dict.fromkeys(
            (
                "sentinel", "sentinels", "master_name", "mastername", "sentinelmasterid", "sentinel_master_id",
                "service_name", "servicename", "sentinel_kwargs", "sentinel_username", "sentinel_password",
                "master_set", "min_other_sentinels",
            ),
            _SENTINEL,
        ),
        "database": "write the number as the URL's path, or as db",
        "user": "write the user into the URL's address, or as username",
        "auth": "write user and password into the URL's address",
    }
)  # fmt: skip
"""Parameters that are refused, each with its remedy; the names are in lower case."""

_OFF, _ON = ("0", "false", "no", "off", "f", "n"), ("1", "true", "yes", "on", "t", "y")
_HARMLESS = MappingProxyType(
    {
        "decode_responses": _OFF, "retry_on_timeout": _OFF, "socket_keepalive": _ON, "encoding": ("utf-8", "utf8"),
        "encoding_errors": ("strict",), "readonly": _OFF, "read_from_replicas": _OFF,
    }
)  # fmt: skip
"""Values that ask for what the gateway does anyway; they are accepted and removed."""


def scheme_problem(url: str) -> str | None:
    """Return why the scheme or the form of the hosts is refused, or None."""
    scheme, _, rest = url.partition("://")
    if (remedy := REFUSED_SCHEMES.get(scheme.lower())) is not None:
        return f"{scheme.lower()}:// is not supported: {remedy}"
    if "," in rest.partition("/")[0].rpartition("@")[2]:
        return (
            f"several hosts are not supported. If they are those of a Sentinel: {_SENTINEL}. Of a cluster: {_CLUSTER}"
        )
    return None


def parameter_problems(url: str) -> list[str]:
    """Return a line for each parameter that is refused; no line repeats a value or an unknown name."""
    given = parse_qsl(url_parts(url).query, keep_blank_values=True)
    names = [name for name, _ in given]
    encrypted = url.startswith("rediss:")
    problems = []
    for number, (name, value) in enumerate(given, start=1):
        lower = name.lower()
        if name in TLS and not encrypted:
            problems.append(f"{name} needs a rediss:// URL")
        elif name in names[: number - 1]:
            problems.append(f"{name if _known(name) else 'a parameter'} is given more than once; keep one")
        elif name in ANYWHERE or name in TLS or is_harmless(lower, value, encrypted=encrypted):
            continue
        elif lower in REFUSED:
            problems.append(f"{lower} is not supported here: {REFUSED[lower]}")
        elif lower in ANYWHERE or lower in TLS:
            problems.append(f"{lower} must be in lower case")
        else:
            problems.append(f"parameter number {number} of the URL's query is not known; remove it")
    return problems


def is_harmless(name: str, value: str, *, encrypted: bool) -> bool:
    """Return whether this asks for what happens anyway."""
    if name in ("ssl", "tls"):
        return value.lower() in (_ON if encrypted else _OFF)
    return value.lower() in _HARMLESS.get(name, ())


def _known(name: str) -> bool:
    return name in ANYWHERE or name in TLS or name.lower() in REFUSED
