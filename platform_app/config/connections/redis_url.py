"""Check Redis URLs: which parameters redis-py may get, and that a connection to another machine is encrypted unless the
operator disables that by name."""

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from redis.asyncio.connection import SSLConnection, parse_url
from redis.exceptions import RedisError

from platform_app.config.connections.local_host import is_local
from platform_app.config.fields import parses

EXPECTED = (
    "expected redis://:password@host:6379/0, special characters of the password percent-encoded, "
    "rediss://… for TLS, or unix:///path/to/socket"
)
_ANYWHERE = frozenset({"client_name", "db", "health_check_interval", "password", "protocol", "username"})
_TLS = frozenset(
    {
        "ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname",
        "ssl_ciphers", "ssl_keyfile", "ssl_min_version", "ssl_password",
    }
)  # fmt: skip
_TLS_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_OWN_SETTING = {
    "max_connections": "remove it; the number of connections is fixed",
    "retry_on_timeout": "remove it; nothing is sent twice",
    "socket_connect_timeout": "use PLATFORM_REDIS_TIMEOUT_MS",
    "socket_timeout": "use PLATFORM_REDIS_TIMEOUT_MS",
    "timeout": "use PLATFORM_REDIS_TIMEOUT_MS",
}
_REQUIREMENTS = ("none", "optional", "required")


def check_redis_url(url: str, *, in_clear: bool = False, ca_file: Path | None = None) -> None:
    """Check a URL. `in_clear` allows redis:// to another machine; `ca_file` holds the CAs if the URL names none.

    Raises:
        ValueError: with every problem, separated by semicolons; none repeats a value or an unknown name.
    """
    if not parses(parse_url, url) or not url.isprintable():
        raise ValueError(EXPECTED)
    url = with_ca_file(url, ca_file)
    problems = _parameter_problems(url) or _unusable_values(url)
    if sends_in_clear(url) and not in_clear:
        problems.append(
            "redis:// sends the password and all counters in clear to a server that is not on this machine; use "
            "rediss://, or set PLATFORM_REDIS_TLS=off if the network is trusted"
        )
    if problems:
        raise ValueError("; ".join(problems))


def _parameter_problems(url: str) -> list[str]:
    names = [name for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)]
    problems = []
    for number, name in enumerate(names, start=1):
        if name in _OWN_SETTING:
            problems.append(f"{name} is not supported here: {_OWN_SETTING[name]}")
        elif name in _TLS and not url.startswith("rediss:"):
            problems.append(f"{name} needs a rediss:// URL")
        elif name not in _ANYWHERE and name not in _TLS:
            problems.append(f"parameter number {number} of the URL's query is not known; remove it")
        elif name in names[: number - 1]:
            problems.append(f"{name} is given more than once; keep one")
    return problems


def sends_in_clear(url: str) -> bool:
    """Return whether traffic to this server, including the password, crosses a network without TLS."""
    return url.startswith("redis:") and not is_local(_host(url))


def is_unverified(url: str) -> bool:
    """Return whether another server could impersonate this one although TLS is used."""
    options: dict[str, Any] = dict(parse_url(url)) if url.startswith("rediss:") else {}
    unchecked = options.get("ssl_cert_reqs", "required") != "required" or not options.get("ssl_check_hostname", True)
    return unchecked and not is_local(_host(url))


def with_ca_file(url: str, ca_file: Path | None) -> str:
    """Return the URL with the CAs to trust, or unchanged if it does not use TLS or names CAs itself."""
    names = {name for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)}
    if ca_file is None or not url.startswith("rediss:") or names & {"ssl_ca_certs", "ssl_ca_path", "ssl_ca_data"}:
        return url
    return f"{url}{'&' if names else '?'}ssl_ca_certs={quote(str(ca_file), safe='/')}"


def _host(url: str) -> str:
    options: dict[str, Any] = dict(parse_url(url))
    return str(options.get("host", "localhost"))  # as redis-py has it


def _unusable_values(url: str) -> list[str]:
    options: dict[str, Any] = dict(parse_url(url))
    problems = []
    if str(options.get("protocol", 2)) not in ("2", "3"):
        problems.append("protocol must be 2 or 3")
    if options.get("ssl_cert_reqs", "required") not in _REQUIREMENTS:
        problems.append(f"ssl_cert_reqs must be one of {', '.join(_REQUIREMENTS)}")
    files = {name: str(options[name]) for name in _TLS_FILES if name in options}
    problems += [
        f"{name}{' (or PLATFORM_REDIS_CA_FILE)' if name == 'ssl_ca_certs' else ''}: the file cannot be read"
        for name, path in files.items()
        if not Path(path).exists()
    ]
    tls = {name: value for name, value in options.items() if name in _TLS}
    if tls and not problems:
        try:
            SSLConnection(**tls).ssl_context.get()
        except (OSError, ValueError, TypeError, RedisError) as error:
            reason = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else None
            problems.append(f"{', '.join(tls)}: OpenSSL does not accept them ({reason or type(error).__name__})")
    return problems
