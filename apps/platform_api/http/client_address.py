"""Whose address a request came from, when proxies stand in front."""

import ipaddress
from collections.abc import Sequence

from starlette.types import Scope

from platform_app.config import Network

MAX_HOPS = 32

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """The peer's address; behind trusted proxies, the nearest address of X-Forwarded-For that is not one of them.

    Read from the right: what stands further left was written by whoever came before, and may be made up. Without
    trusted proxies the header means nothing.
    """
    client = scope.get("client")
    peer = str(client[0]) if client else "unix"
    if not trusted and ":" not in peer:  # the usual case, at no cost
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
                break  # made up or mangled: the last address that is known to be true
            address = hop
            if not _is_trusted(hop, trusted):
                break
    return str(address)


def _parse(text: str) -> Address | None:
    """The address, an IPv4 one also where it comes in IPv6 clothes (`::ffff:192.0.2.1`); None where it is none, or has
    a zone, which could be any text."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return None if address.scope_id is not None else address.ipv4_mapped or address


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)
