"""The query parameters of a libpq URL: those that are translated, and a remedy for each of the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import unquote

TRANSLATED = frozenset(
    {
        "application_name", "connect_timeout", "dbname", "fallback_application_name", "host", "keepalives",
        "keepalives_count", "keepalives_idle", "keepalives_interval", "options", "passfile",
        "password", "port", "ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert", "sslcrl", "sslkey",
        "sslmode", "sslnegotiation", "sslpassword", "sslrootcert", "target_session_attrs", "tcp_user_timeout", "user",
    }
)  # fmt: skip

_OTHER_SPELLINGS = MappingProxyType({"database": "dbname", "ssl": "sslmode"})
"""Those of asyncpg, JDBC and SQLAlchemy; libpq takes `ssl=true` too."""
_BOOLEAN_MODES = MappingProxyType({"true": "require", "false": "disable"})

_ADDRESS = "write the address in place of the host name; for verify-full the certificate must name it"
_KERBEROS = "use a password or a client certificate (sslcert)"
_OWN_TIMEOUT = "remove it; PLATFORM_DATABASE_TIMEOUT_SECONDS bounds every wait for the server"
_NOT_BY_DRIVER = "the driver has no such check; remove it"

REFUSED = MappingProxyType(
    {
        "channel_binding": "the driver cannot require channel binding; use sslmode=verify-full, and remove it",
        "client_encoding": "the connection always uses UTF-8; remove it",
        "gssdelegation": _KERBEROS,
        "gssencmode": "the driver does not encrypt with GSSAPI; use TLS (sslmode), and remove it",
        "gsslib": _KERBEROS,
        "hostaddr": _ADDRESS,
        "krbsrvname": _KERBEROS,
        "load_balance_hosts": "hosts are tried in the order of the URL; remove it",
        "max_protocol_version": _NOT_BY_DRIVER,
        "min_protocol_version": _NOT_BY_DRIVER,
        "oauth_client_id": _KERBEROS,
        "oauth_client_secret": _KERBEROS,
        "oauth_issuer": _KERBEROS,
        "oauth_scope": _KERBEROS,
        "prepared_statement_cache_size": "use PLATFORM_DATABASE_STATEMENT_CACHE",
        "replication": "the gateway needs an ordinary connection; remove it",
        "require_auth": "the driver cannot choose the method of authentication; use sslmode=verify-full, and remove it",
        "requirepeer": "the driver cannot check the socket's owner; put the socket into a private directory",
        "requiressl": "write sslmode=require",
        "scram_client_key": "write the password",
        "scram_server_key": "write the password",
        "service": "write the service's parameters into the URL",
        "servicefile": "write the service's parameters into the URL",
        "ssl_check_hostname": "write sslmode=verify-full, or verify-ca to accept another host name",
        "sslcertmode": "name a client certificate with sslcert, or remove it",
        "sslcompression": "TLS compression is insecure; remove it",
        "sslcrldir": "put the revocation lists into one file and name it with sslcrl",
        "sslkeylogfile": "it writes the session's keys to a file; remove it",
        "sslsni": "the server name is always sent; remove it",
        "statement_cache_size": "use PLATFORM_DATABASE_STATEMENT_CACHE",
    }
)
"""Parameters that are refused, each with its remedy."""

_HARMLESS = MappingProxyType(
    {
        "channel_binding": ("disable", "prefer"),
        "client_encoding": ("auto", "utf8", "utf-8"),
        "gssencmode": ("disable", "prefer"),
        "load_balance_hosts": ("disable",),
        "sslcertmode": ("allow",),
        "sslcompression": ("0",),
        "sslsni": ("1",),
        "replication": ("false", "off", "no", "0"),
    }
)
"""Values that request the default behaviour; they are accepted in any case, and ignored."""
_WORDS = ("sslmode", "target_session_attrs")
"""Parameters whose values are words, which are accepted in any case, as every choice is."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """A parsed query: the translated parameters, and one line for each problem."""

    values: Mapping[str, str]
    problems: tuple[str, ...]


def read_parameters(query: str) -> Parameters:
    """Parse the query of a URL. No problem repeats a value or an unknown name."""
    values: dict[str, str] = {}
    problems: list[str] = []
    seen: set[str] = set()
    for number, text in enumerate(query.split("&") if query else (), start=1):
        raw_name, equals, raw_value = text.partition("=")
        name, value = _usual(unquote(raw_name), unquote(raw_value))  # libpq takes a plus sign as it is
        if not equals or "=" in raw_value or "\0" in value or (name not in TRANSLATED and name not in REFUSED):
            problems.append(f"parameter number {number} of the URL's query is not one of libpq's; remove it")
        elif name in seen:
            problems.append(f"{name} is given more than once; keep one")
        elif name in TRANSLATED:
            values[name] = value
        elif value.lower() not in _HARMLESS.get(name, ()):
            problems.append(f"{name} is not supported here: {REFUSED[name]}")
        seen.add(name)
    return Parameters(MappingProxyType(values), tuple(problems))


def _usual(name: str, value: str) -> tuple[str, str]:
    if name == "ssl":
        value = _BOOLEAN_MODES.get(value.lower(), value)
    elif name in _WORDS:
        value = value.lower()
    return _OTHER_SPELLINGS.get(name, name), value
