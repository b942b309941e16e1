"""Find the client's address behind proxies."""

import ipaddress
from collections.abc import Sequence

from starlette.types import Scope

from platform_app.config import Network

MAX_HOPS = 32

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """Return the peer's address; behind trusted proxies, the rightmost address in X-Forwarded-For outside them.

    The header is read from the right, because the sender of a request can write anything to its left. Without trusted
    proxies the header is ignored.
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
        hops = [hop.strip() for value in values for hop in value.split(",")][-MAX_HOPS:]
        for text in reversed(hops):
            hop = _parse(text)
            if hop is None:
                break  # malformed: use the last address that a trusted proxy wrote
            address = hop
            if not _is_trusted(hop, trusted):
                break
    return str(address)


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
