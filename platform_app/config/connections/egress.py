"""The proxy for connections to providers, from PLATFORM_EGRESS_PROXY, HTTPS_PROXY and NO_PROXY."""

import ipaddress
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from platform_app.config.connections.url_parts import is_host_name, split_url
from platform_app.config.fields import Network

DIRECT = "off"
"""The value of PLATFORM_EGRESS_PROXY that disables proxies, HTTPS_PROXY included."""
EXPECTED = (
    "expected http://host:port or https://host:port of a proxy, with user:password@ before the host if it requires "
    "credentials (special characters percent-encoded)"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SEPARATORS = re.compile(r"[,\s]+")


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """An HTTP proxy that opens tunnels (CONNECT)."""

    host: str
    port: int
    tls: bool = False
    """Whether the connection to the proxy itself is TLS."""
    authorization: str | None = field(default=None, repr=False)
    """The value of Proxy-Authorization: a secret."""


@dataclass(frozen=True, slots=True)
class _Exception:
    """An entry of NO_PROXY."""

    host: str = ""
    """A host that matches with all its subdomains; empty matches every host."""
    network: Network | None = None
    port: int | None = None

    def matches(self, host: str, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.network is None:
            return not self.host or host == self.host or host.endswith(f".{self.host}")
        try:
            return ipaddress.ip_address(host) in self.network
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Egress:
    """Which connections to providers go through a proxy."""

    proxy: EgressProxy | None = None
    tls_only: bool = False
    """Whether the proxy is used for https:// addresses only, as HTTPS_PROXY defines it."""
    exceptions: tuple[_Exception, ...] = ()

    def proxy_for(self, host: str, port: int, *, tls: bool) -> EgressProxy | None:
        """Return the proxy for this server, or None for a direct connection. Host names are not resolved."""
        if self.proxy is None or (self.tls_only and not tls):
            return None
        host = host.lower().rstrip(".")
        return None if any(entry.matches(host, port) for entry in self.exceptions) else self.proxy


def parse_proxy(value: str) -> EgressProxy:
    """Parse a proxy's URL. Without a scheme it is http://, as for other programs.

    Raises:
        ValueError: not a proxy's URL. The message repeats no part of it, because it may contain a password.
    """
    parts = split_url(value if "://" in value else f"http://{value}")
    if (
        parts is None
        or parts.port == 0
        or parts.scheme not in _DEFAULT_PORTS
        or not parts.hostname
        or not value.isprintable()
    ):
        raise ValueError(EXPECTED)
    if not is_host_name(parts.hostname) or parts.path not in ("", "/") or parts.query or parts.fragment or " " in value:
        raise ValueError(EXPECTED)
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {b64encode(pair.encode()).decode()}"
    port = _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    return EgressProxy(parts.hostname, port, parts.scheme == "https", authorization)


def read_egress(own: str | None, environ: Mapping[str, str]) -> Egress:
    """Return the proxy settings: PLATFORM_EGRESS_PROXY, whose value is `own`, else HTTPS_PROXY. NO_PROXY applies to
    both. The lower-case names take precedence, as for other programs.

    Raises:
        ValueError: HTTPS_PROXY is not a proxy's URL.
    """
    exceptions = parse_exceptions(_standard(environ, "NO_PROXY"))
    if own is not None:
        return Egress() if own == DIRECT else Egress(parse_proxy(own), exceptions=exceptions)
    standard = _standard(environ, "HTTPS_PROXY")
    if not standard:
        return Egress()
    return Egress(parse_proxy(standard), tls_only=True, exceptions=exceptions)


def _standard(environ: Mapping[str, str], name: str) -> str:
    """Return a variable that other programs read too; empty if it is not set, or blank."""
    return environ.get(name.lower(), "").strip() or environ.get(name, "").strip()


def parse_exceptions(value: str) -> tuple[_Exception, ...]:
    """Parse NO_PROXY: hosts (with their subdomains), addresses and networks, each with an optional port, or `*`.
    Other entries match nothing, as for other programs, because the variable is shared with them. Quotes are left out:
    docker's --env-file makes them part of the value."""
    entries = (entry.strip("'\"") for entry in _SEPARATORS.split(value.lower()))
    return tuple(_exception(entry) for entry in entries if entry)


def _exception(entry: str) -> _Exception:
    if entry == "*":
        return _Exception()
    try:
        return _Exception(network=ipaddress.ip_network(entry.strip("[]"), strict=False))
    except ValueError:
        pass
    host, colon, port = entry.rpartition(":")
    if not colon or not port.isdecimal():
        host, port = entry, ""
    number = int(port) if port else None
    try:
        return _Exception(network=ipaddress.ip_network(host.strip("[]")), port=number)
    except ValueError:
        return _Exception(host.removeprefix("*").strip(".") or entry, port=number)
