"""An IPv4 client of a socket for both families has one address everywhere, whatever form the system gives it."""

import ipaddress
from contextlib import ExitStack

import pytest

from apps.platform_api.server.limits import ServerLimits
from tests.attacks.bounds.edge_server import becomes, client, edge_server, on_uvloop, received

PROXY = (ipaddress.ip_network("127.0.0.1"),)


@pytest.mark.parametrize(("trusted", "admitted"), [(PROXY, 8), ((), 3)])
def test_mapped_address_counts_as_ipv4(trusted: tuple[ipaddress.IPv4Network, ...], admitted: int) -> None:
    async def attack() -> None:
        limits = ServerLimits(connections_per_address=3, trusted_proxies=trusted)
        async with edge_server(limits, "::") as server:
            with ExitStack() as stack:
                sockets = [stack.enter_context(client(server.address)) for _ in range(8)]
                for each in sockets:
                    each.send(b"GET / HTTP/1.1\r\n")
                refused = [await received(each) for each in sockets[admitted:]]
                assert all(each.startswith(b"HTTP/1.1 503 ") for each in refused)
                await becomes(lambda: server.open_sockets == admitted)
                assert {each.address for each in server.connections._all} == {"127.0.0.1"}

    on_uvloop(attack)
