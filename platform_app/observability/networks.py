"""Which client addresses count as one client."""

import ipaddress
from functools import lru_cache


def unmapped(address: str) -> str:
    """Return the IPv4 address of an IPv4-mapped one, which a socket for both families has for an IPv4 client. Any other
    address is returned as it is."""
    if not address.startswith("::"):
        return address
    try:
        mapped = ipaddress.IPv6Address(address).ipv4_mapped
    except ValueError:
        return address
    return address if mapped is None else str(mapped)


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """Return the address itself, or the /64 of an IPv6 address: a single customer has that many addresses."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
