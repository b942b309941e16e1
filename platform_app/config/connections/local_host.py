"""Whether a server is on this machine, so that nothing sent to it can be read on a network."""

import ipaddress


def is_local(host: str) -> bool:
    """Whether this is a Unix socket, a loopback address or `localhost`. Other names are not looked up: what they
    resolve to may change."""
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
