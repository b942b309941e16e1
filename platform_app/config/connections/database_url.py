"""Translate libpq's connection URLs for asyncpg, and refuse by name what cannot be translated.

The form: https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-CONNSTRING-URIS. No message repeats a value of
the URL: if special characters are not percent-encoded, any part of it may belong to the password.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast, get_args
from urllib.parse import unquote

from platform_app.config.connections.database_parameters import read_parameters
from platform_app.config.connections.database_tls import DatabaseTls, tls_from
from platform_app.config.connections.local_host import is_local
from platform_app.config.connections.tcp_options import TcpOptions, tcp_options

SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
_OTHER_FORMS = MappingProxyType(
    {
        "jdbc": "remove jdbc:, and write user and password before the host",
        "mysql": "the gateway needs PostgreSQL",
        "mariadb": "the gateway needs PostgreSQL",
        "sqlite": "the gateway needs PostgreSQL",
        "cockroachdb": "the gateway needs PostgreSQL",
        "http": "name PostgreSQL itself, not an HTTP API",
        "https": "name PostgreSQL itself, not an HTTP API",
        "tcp": "write postgresql://",
        "pgsql": "write postgresql://",
    }
)
EXPECTED = (
    "expected postgresql://user:password@host:5432/database, special characters of the user, the password and the "
    "database percent-encoded"
)
DEFAULT_PORT = 5432
SOCKET_DIRECTORIES = ("/run/postgresql", "/var/run/postgresql")
"""Socket directories to try before `localhost` if the URL names no host. Not /tmp: every user may write to it."""
MAX_CONNECT_SECONDS = 60

SessionAttributes = Literal["any", "read-write", "read-only", "primary", "standby", "prefer-standby"]
_OTHER_DRIVERS = ("psycopg", "psycopg2", "psycopg2cffi", "psycopg_async", "pg8000")
_KEYWORD = re.compile(r"\b(?:host|hostaddr|port|dbname|user|service)\s*=")
_FORBIDDEN_IN_HOST = frozenset(" /@?#,[]%\\\"'")


@dataclass(frozen=True, slots=True)
class DatabaseTarget:
    """The database's address and connection settings, in asyncpg's terms."""

    hosts: tuple[str, ...]
    """Names, addresses, or directories of Unix sockets; tried in order."""
    ports: tuple[int, ...]
    """One for each host."""
    user: str | None
    password: str | None = field(repr=False)
    database: str | None
    passfile: str | None
    tls: DatabaseTls
    session_attributes: SessionAttributes
    connect_seconds: float | None
    application_name: str | None
    options: str | None
    """Settings of the session, as `-c name=value`."""
    tcp: TcpOptions = field(default_factory=TcpOptions)

    @property
    def is_local(self) -> bool:
        """Whether every host is on this machine."""
        return all(is_local(host) for host in self.hosts)

    @property
    def insecure_mode(self) -> str | None:
        """The sslmode, if it lets another machine on the network read or change the traffic; else None."""
        return None if self.is_local or self.tls.verifies else self.tls.mode


def parse_database_url(url: str, ca_file: Path | None = None) -> DatabaseTarget:
    """Translate a URL; `ca_file` holds the CAs to trust if the URL names no `sslrootcert`.

    Raises:
        ValueError: with every problem, each by the name of its parameter, separated by semicolons.
    """
    scheme, separator, rest = url.partition("://")
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    userinfo, at, hostspec = authority.rpartition("@")
    if (other := _other_form(url)) is not None:
        raise ValueError(other)
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES or "@" in userinfo or set(path) & {"@", "/"} or not url.isprintable():
        raise ValueError(EXPECTED)
    user, colon, password = userinfo.partition(":")
    parameters = read_parameters(query)
    values, problems = parameters.values, list(parameters.problems)
    hosts, ports = _addresses(hostspec, values, problems)
    tls, tls_problems = tls_from(values, all(is_local(host) for host in hosts), ca_file)
    target = DatabaseTarget(
        hosts=hosts,
        ports=ports,
        user=values.get("user") or (unquote(user) if at else None) or None,
        password=values.get("password") or (unquote(password) if colon else None) or None,
        database=values.get("dbname") or unquote(path) or None,
        passfile=values.get("passfile"),
        tls=tls,
        session_attributes=_session_attributes(values, problems),
        connect_seconds=_connect_seconds(values, problems),
        application_name=values.get("application_name") or values.get("fallback_application_name"),
        options=values.get("options"),
        tcp=tcp_options(values, problems),
    )
    problems += _unsendable(target, "%ef%bf%bd" in url.lower() or "\ufffd" in url)
    if problems or tls_problems:
        raise ValueError("; ".join([*problems, *tls_problems]))
    return target


def _unsendable(target: DatabaseTarget, has_replacement: bool) -> list[str]:
    """Return a line for each text that PostgreSQL's protocol cannot carry: with a NUL, or that is not UTF-8.
    `has_replacement`: the URL itself has the character that stands for bytes that are not."""
    texts = {"user": target.user or "", "password": target.password or "", "database": target.database or ""}
    problems = [f"{name} must not contain %00" for name, text in texts.items() if "\0" in text]
    if not has_replacement:
        problems += [f"{name} must be percent-encoded UTF-8" for name, text in texts.items() if "\ufffd" in text]
    return problems


def _addresses(
    hostspec: str, values: Mapping[str, str], problems: list[str]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the hosts and their ports. `host` and `port` in the query take precedence, as with libpq."""
    pairs = [_host_and_port(text) for text in hostspec.split(",")] if hostspec else []
    if values.get("host"):
        given = values["host"].split(",")
        # A single `name:port` is SQLAlchemy's form; libpq lists ports separately.
        pairs = [_host_and_port(given[0])] if _is_name_with_port(given) else [(host, "") for host in given]
    if not pairs:
        pairs = [(host, "") for host in (*SOCKET_DIRECTORIES, "localhost")]
    hosts, ports = [host for host, _ in pairs], [port for _, port in pairs]
    if any(host.count(":") == 1 and not host.startswith("/") for host in hosts):
        problems.append("several hosts in the parameter host have no ports; write host=a,b and port=5432,5433")
    elif not all(_is_host(host) for host in hosts):
        problems.append("expected hosts that are names, addresses (IPv6 in brackets) or directories of Unix sockets")
    if "port" in values:
        ports = values["port"].split(",")
        ports = ports * len(hosts) if len(ports) == 1 else ports
    if len(ports) != len(hosts):
        problems.append(f"expected one port, or one for each of the {len(hosts)} hosts")
    numbers = [_port(text) for text in ports]
    if None in numbers:
        problems.append("expected ports from 1 to 65535")
    return tuple(hosts), tuple(number or DEFAULT_PORT for number in numbers)


def _other_form(url: str) -> str | None:
    """Return why a connection string of another kind is refused, or None."""
    scheme, _, driver = url.partition(":")[0].lower().partition("+")
    if scheme in _OTHER_FORMS:
        return f"{EXPECTED}; {scheme}: is not supported: {_OTHER_FORMS[scheme]}"
    if scheme in ("postgresql", "postgres") and driver in _OTHER_DRIVERS:
        return f"{EXPECTED}; the driver is the gateway's own: remove +{driver}"
    if "://" not in url and _KEYWORD.search(url):
        return f"{EXPECTED}; libpq's form keyword=value is not supported"
    return None


def _is_name_with_port(hosts: list[str]) -> bool:
    return len(hosts) == 1 and hosts[0].count(":") == 1 and not hosts[0].startswith("/")


def _host_and_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
        return (unquote(host), port) if bracket and (not rest or port != rest) else ("", port)
    host, _, port = text.partition(":")
    return unquote(host), port


def _is_host(host: str) -> bool:
    if host.startswith("/"):
        return host.isprintable()
    if ":" in host:
        return _is_ipv6(host)
    return bool(host) and host.isascii() and host.isprintable() and not set(host) & _FORBIDDEN_IN_HOST


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return "%" not in host


def _port(text: str) -> int | None:
    if not text:
        return DEFAULT_PORT
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len("65535") else 0
    return number if 1 <= number <= 65_535 else None


def _session_attributes(values: Mapping[str, str], problems: list[str]) -> SessionAttributes:
    value, allowed = values.get("target_session_attrs", "any"), get_args(SessionAttributes)
    if value not in allowed:
        problems.append(f"target_session_attrs must be one of {', '.join(allowed)}")
    return cast("SessionAttributes", value)


def _connect_seconds(values: Mapping[str, str], problems: list[str]) -> float | None:
    """Return `connect_timeout`, or None for 0 (no limit in libpq), so that the setting's timeout applies."""
    text = values.get("connect_timeout", "0")
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len("60") else MAX_CONNECT_SECONDS + 1
    if number > MAX_CONNECT_SECONDS:
        problems.append(f"connect_timeout must be a whole number of seconds from 0 to {MAX_CONNECT_SECONDS}")
    return float(number) or None
