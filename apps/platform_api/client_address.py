"""Whose address a request came from, when proxies stand in front."""

import ipaddress
from collections.abc import Sequence

from starlette.types import Scope

from platform_app.config import Network

MAX_HOPS = 32


def client_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """The peer's address; behind trusted proxies, the nearest address of X-Forwarded-For that is not one of them.

    Read from the right: what stands further left was written by whoever came before, and may be made up. Without
    trusted proxies the header means nothing.
    """
    client = scope.get("client")
    address = str(client[0]) if client else "unix"
    if not trusted or not _is_trusted(address, trusted):
        return address
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    hops = [hop.strip() for value in values for hop in value.split(",")][-MAX_HOPS:]
    for hop in reversed(hops):
        if not _is_address(hop):
            return address  # made up or mangled: the last address that is known to be true
        address = hop
        if not _is_trusted(hop, trusted):
            break
    return address


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_trusted(text: str, trusted: Sequence[Network]) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(address in network for network in trusted)
