"""Check Redis URLs: which parameters redis-py may get, and that a connection to another machine is encrypted unless the
operator disables that by name."""

import re
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from redis.asyncio.connection import SSLConnection, parse_url
from redis.exceptions import RedisError

from platform_app.config.connections.local_host import is_local
from platform_app.config.connections.redis_parameters import (
    SAME_SCHEMES,
    TLS,
    is_harmless,
    parameter_problems,
    scheme_problem,
)
from platform_app.config.connections.url_parts import is_host_name, split_url, url_parts
from platform_app.config.fields import parses

EXPECTED = (
    "expected redis://:password@host:6379/0, special characters of the password percent-encoded, "
    "rediss://… for TLS, or unix:///path/to/socket"
)
_TLS_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_NUMBERS = ("db", "health_check_interval", "protocol", "ssl_min_version")
_BOOLEANS = ("ssl_check_hostname",)
_TRUE_OR_FALSE = frozenset({"1", "t", "true", "y", "yes", "0", "f", "false", "n", "no"})
"""What redis-py knows, in lower case; it takes every other word for true, also `off`."""
_NUMBER = re.compile(r"\d{0,5}", re.ASCII)
_CLIENT_NAME = re.compile(r"[!-~]*")
"""What the command CLIENT SETNAME takes; the server refuses every other name, and the connection with it."""
_NO_HOST = frozenset(" /@?#,\\\"'")
_REQUIREMENTS = ("none", "optional", "required")


def check_redis_url(url: str, *, in_clear: bool = False, ca_file: Path | None = None) -> None:
    """Check a URL. `in_clear` allows redis:// to another machine; `ca_file` holds the CAs if the URL names none.

    Raises:
        ValueError: with every problem, separated by semicolons; none repeats a value or an unknown name.
    """
    if (problem := scheme_problem(url)) is not None:
        raise ValueError(f"{EXPECTED}; {problem}")
    parts = split_url(url)
    if parts is None or not url.isprintable():
        raise ValueError(EXPECTED)
    if parts.scheme != "unix" and not _NUMBER.fullmatch(unquote(parts.path).strip("/")):
        raise ValueError(f"{EXPECTED}; the path must be the database's number, such as /0")
    problems = parameter_problems(usual_redis_url(url)) or _value_problems(usual_redis_url(url))
    if problems:
        raise ValueError("; ".join(problems))
    url = with_ca_file(url, ca_file)
    if not parses(parse_url, url) or not is_host_name(_host(url)):
        raise ValueError(EXPECTED)
    problems = _unusable_values(url)
    if sends_in_clear(url) and not in_clear:
        problems.append(
            "redis:// sends the password and all counters in clear to a server that is not on this machine; use "
            "rediss://, or set PLATFORM_REDIS_TLS=off if the network is trusted"
        )
    if problems:
        raise ValueError("; ".join(problems))


def usual_redis_url(url: str) -> str:
    """Return the URL with redis-py's scheme, and without parameters that ask for what happens anyway."""
    scheme, separator, rest = url.partition("://")
    scheme = SAME_SCHEMES.get(scheme.lower(), scheme.lower())
    place, question_mark, query = rest.partition("?")
    kept = [
        part
        for part in query.split("&")
        if not any(is_harmless(name.lower(), value, encrypted=scheme == "rediss") for name, value in parse_qsl(part))
    ]
    return f"{scheme}{separator}{place}{question_mark if any(kept) else ''}{'&'.join(kept)}"


def sends_in_clear(url: str) -> bool:
    """Return whether traffic to this server, including the password, crosses a network without TLS."""
    return url.startswith("redis:") and not is_local(_host(url))


def selects_database(url: str) -> bool:
    """Return whether the URL names another database than number 0."""
    return bool(dict(parse_url(url)).get("db"))


def is_unverified(url: str) -> bool:
    """Return whether another server could impersonate this one although TLS is used."""
    options: dict[str, Any] = dict(parse_url(url)) if url.startswith("rediss:") else {}
    unchecked = options.get("ssl_cert_reqs", "required") != "required" or not options.get("ssl_check_hostname", True)
    return unchecked and not is_local(_host(url))


def with_ca_file(url: str, ca_file: Path | None) -> str:
    """Return the URL for redis-py: in its spelling, and with the CAs to trust if it uses TLS and names none itself."""
    url = usual_redis_url(url)
    names = {name for name, _ in parse_qsl(url_parts(url).query, keep_blank_values=True)}
    if ca_file is None or not url.startswith("rediss:") or names & {"ssl_ca_certs", "ssl_ca_path", "ssl_ca_data"}:
        return url
    return f"{url}{'&' if names else '?'}ssl_ca_certs={quote(str(ca_file), safe='/')}"


def _host(url: str) -> str:
    options: dict[str, Any] = dict(parse_url(url))
    return str(options.get("host", "localhost"))  # as redis-py has it


def _value_problems(url: str) -> list[str]:
    """Return a line for each value that redis-py could not read, or would ignore or change without a message."""
    given = dict(parse_qsl(url_parts(url).query, keep_blank_values=True))
    problems = [f"{name} must be a whole number" for name in _NUMBERS if not _NUMBER.fullmatch(given.get(name, ""))]
    return problems + [
        f"{name} must be true or false" for name in _BOOLEANS if given.get(name, "true").lower() not in _TRUE_OR_FALSE
    ]


def _unusable_values(url: str) -> list[str]:
    options: dict[str, Any] = dict(parse_url(url))
    problems = []
    if not _CLIENT_NAME.fullmatch(options.get("client_name", "")):
        problems.append("client_name must be printable ASCII characters without spaces, such as my-gateway")
    if not str(options.get("host", "")).isprintable() or set(options.get("host", "")) & _NO_HOST:
        problems.append("expected a host that is a name or an address (IPv6 in brackets)")
    if not str(options.get("path", "")).isprintable():
        problems.append("the path of the socket must not contain control characters")
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
    tls = {name: value for name, value in options.items() if name in TLS}
    if tls and not problems:
        try:
            SSLConnection(**tls).ssl_context.get()
        except (OSError, ValueError, TypeError, RedisError) as error:
            reason = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else None
            problems.append(f"{', '.join(tls)}: OpenSSL does not accept them ({reason or type(error).__name__})")
    return problems
