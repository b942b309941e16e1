"""Decide whether a server is on this machine, so that its traffic cannot be read on a network."""

import ipaddress


def is_local(host: str) -> bool:
    """Return whether this is a Unix socket, a loopback address or `localhost`. Other names are not resolved, because
    their address may change."""
    if host.startswith("/"):
        return True
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
