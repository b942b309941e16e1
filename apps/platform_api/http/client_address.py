"""Find the client's address behind proxies."""

import ipaddress
import re
import time
from collections.abc import Sequence

from starlette.types import Scope

from platform_app.config import Network
from platform_app.observability.logging import get_logger

MAX_HOPS = 32
MAX_ENTRY = 100
"""Longest entry of the header that is read, in characters."""
LOG_SECONDS = 60.0
"""At most one log line about unreadable headers in this time."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORT = r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]{1,64}))?"
_BRACKETS = re.compile(rf"\[([^\[\]]*)\]{_PORT}", re.ASCII)
_IPV4_END = re.compile(rf"([0-9A-Fa-f:]*[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}){_PORT}", re.ASCII)
_EIGHT_GROUPS = re.compile(rf"((?:[0-9A-Fa-f]{{1,4}}:){{7}}[0-9A-Fa-f]{{1,4}}){_PORT}", re.ASCII)
_FORMS = (_BRACKETS, _IPV4_END, _EIGHT_GROUPS)

_log = get_logger("http")


class _Reported:
    """When the last line about an unreadable header was logged."""

    at = -LOG_SECONDS


def client_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """Return the peer's address; behind trusted proxies, the rightmost address in X-Forwarded-For outside them.

    The header is read from the right, because the sender of a request can write anything to its left. Without trusted
    proxies the header is ignored. An entry may have a port, brackets and quotes, as load balancers write them.
    """
    client = scope.get("client")
    peer = str(client[0]) if client else "unix"
    if not trusted and ":" not in peer:  # the common case skips parsing
        return peer
    address = _parse(peer)
    if address is None:
        return peer
    if _is_trusted(address, trusted):
        values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        hops = [hop for value in values for text in value.split(",") if (hop := text.strip())][-MAX_HOPS:]
        if not hops and any(name == b"forwarded" for name, _ in scope["headers"]):
            _report("only Forwarded was sent; let the proxy send X-Forwarded-For", address)
        for text in reversed(hops):
            hop = parse_forwarded(text)
            if hop is None:  # use the last address that a trusted proxy wrote; what is further left may be forged
                _report("an entry of X-Forwarded-For is not an address", address)
                break
            address = hop
            if not _is_trusted(hop, trusted):
                break
    return str(address)


def parse_forwarded(text: str) -> Address | None:
    """Return the address of one entry of X-Forwarded-For, or None if it has none, such as `unknown` or `_hidden`.

    Entries are read as RFC 7239 and load balancers write them: `203.0.113.9:51234`, `[2001:db8::7]:443`,
    `"[2001:db8::7]"`, `fe80::1%eth0`, `[::ffff:192.0.2.1]`. The zone is dropped: it could be any text.
    """
    if len(text) > MAX_ENTRY:
        return None
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    for form in _FORMS:
        if (found := form.fullmatch(text)) is not None:
            text = found[1]
            break
    address, zone, _ = text.partition("%")
    return _parse(address) if not zone or ":" in address else None


def _parse(text: str) -> Address | None:
    """Return the address; an IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) as IPv4. Return None for other text, and for
    an address with a zone, which could be any text."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return None if address.scope_id is not None else address.ipv4_mapped or address


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _report(problem: str, proxy: Address) -> None:
    """Log that clients behind this proxy share its address. The entry is not logged: a client may have sent it."""
    now = time.monotonic()
    if now - _Reported.at >= LOG_SECONDS:
        _Reported.at = now
        _log.warning("client_address_unreadable", problem=problem, proxy=str(proxy))
