"""How many connections there may be, which give way, and whose unread responses end."""

import ipaddress
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from apps.platform_api.server.connections import SWEEP_SECONDS, Connections
from apps.platform_api.server.limits import ServerLimits
from apps.platform_api.server.refusal import Reason

LIMITS = ServerLimits(connections=6, connections_per_address=3, unsent_bytes=1000)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class FakeConnection:
    address: str = "192.0.2.1"
    size: int = 0
    still: bool = True
    did: list[str] = field(default_factory=list)
    checked_at: list[float] = field(default_factory=list)

    def check(self, now: float) -> None:
        self.checked_at.append(now)

    def close_idle(self) -> None:
        self.did.append("closed")

    def refuse_held(self) -> None:
        self.did.append("refused")

    def unsent(self) -> int:
        return self.size

    def stands_still(self, now: float) -> bool:
        return self.still

    def end_slow_reader(self) -> None:
        self.did.append("ended")
        self.size = 0

    def abort(self) -> None:
        self.did.append("aborted")


class BrokenConnection(FakeConnection):
    def check(self, now: float) -> None:
        raise RuntimeError("a bug")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def connections(clock: Clock) -> AsyncIterator[Connections]:
    made = Connections(LIMITS, clock)
    yield made
    if made._timer is not None:
        made._timer.cancel()


def admitted(connections: Connections, count: int, address: str = "192.0.2.1") -> list[FakeConnection]:
    made = [FakeConnection(address) for _ in range(count)]
    assert [connections.admit(each) for each in made] == [None] * count
    return made


async def test_address_over_its_bound_is_refused(connections: Connections) -> None:
    held = admitted(connections, 3)
    refusal = connections.admit(FakeConnection())
    assert refusal is not None
    assert (refusal.status, refusal.reason) == (503, Reason.CONNECTIONS_PER_ADDRESS)
    connections.remove(held[0])
    connections.remove(held[0])
    assert connections.admit(FakeConnection()) is None
    assert connections.admit(FakeConnection()) is not None


async def test_addresses_of_one_ipv6_network_count_together(connections: Connections) -> None:
    for number in range(3):
        assert connections.admit(FakeConnection(f"2001:db8::{number}")) is None
    assert connections.admit(FakeConnection("2001:db8::ffff")) is not None
    assert connections.admit(FakeConnection("2001:db8:0:1::1")) is None


async def test_process_over_its_bound_is_refused(connections: Connections) -> None:
    for number in range(6):
        admitted(connections, 1, f"192.0.2.{number}")
    refusal = connections.admit(FakeConnection("192.0.2.99"))
    assert refusal is not None
    assert refusal.reason is Reason.CONNECTIONS


async def test_longest_idle_of_the_address_gives_way(connections: Connections) -> None:
    other = admitted(connections, 1, "192.0.2.9")[0]
    first, second, third = admitted(connections, 3)
    for connection in (other, second, first):
        connections.set_idle(connection, idle=True)
    connections.set_idle(second, idle=False)
    connections.set_idle(second, idle=True)
    assert connections.admit(FakeConnection()) is None
    assert (first.did, second.did, third.did, other.did) == (["closed"], [], [], [])


async def test_unread_response_makes_a_connection_not_idle(connections: Connections) -> None:
    """A response of this turn of the loop may still be waiting to be written: closing would lose it."""
    unread, read, busy = admitted(connections, 3)
    unread.size, unread.still = 400, False
    for connection in (unread, read):
        connections.set_idle(connection, idle=True)
    assert connections.admit(FakeConnection()) is None
    assert (unread.did, read.did, busy.did) == ([], ["closed"], [])
    assert connections.admit(FakeConnection()) is not None
    unread.still = True
    assert connections.admit(FakeConnection()) is None
    assert (unread.did, busy.did) == (["ended"], [])


async def test_evicted_connection_is_checked_until_it_is_lost(connections: Connections) -> None:
    evicted, *others = admitted(connections, 3)
    connections.set_idle(evicted, idle=True)
    newcomer = FakeConnection()
    assert connections.admit(newcomer) is None
    connections._sweep()
    assert len(evicted.checked_at) == 1
    connections.remove(evicted)
    connections._sweep()
    assert (len(evicted.checked_at), len(newcomer.checked_at)) == (1, 2)
    assert connections.admit(FakeConnection()) is not None, "its place was given once"
    connections.remove(others[0])
    assert connections.admit(FakeConnection()) is None


async def test_trusted_proxy_has_no_address_bound(clock: Clock) -> None:
    proxies = (ipaddress.ip_network("192.0.2.0/24"),)
    limits = ServerLimits(connections=6, connections_per_address=3, trusted_proxies=proxies)
    connections = Connections(limits, clock)
    admitted(connections, 6)
    assert connections.admit(FakeConnection()) is not None


async def test_own_stall_does_not_age_connections(connections: Connections, clock: Clock) -> None:
    (connection,) = admitted(connections, 1)
    for gap in (SWEEP_SECONDS, 60.0, SWEEP_SECONDS):
        clock.now += gap
        connections._sweep()
    assert connection.checked_at == [0.5, 1.5, 2.0]


async def test_unread_responses_are_bounded_together(connections: Connections) -> None:
    large, small, moving = (admitted(connections, 1, f"192.0.2.{n}")[0] for n in range(3))
    large.size, small.size, moving.size, moving.still = 600, 300, 500, False
    connections._sweep()
    assert (large.did, small.did, moving.did) == (["ended"], [], [])
    connections._sweep()
    assert (small.did, moving.did) == ([], [])


async def test_connection_that_cannot_be_checked_is_ended_alone(connections: Connections, clock: Clock) -> None:
    broken, other = BrokenConnection(), FakeConnection()
    for each in (broken, other):
        assert connections.admit(each) is None
    for looks in (1, 2):
        clock.now += SWEEP_SECONDS
        connections._sweep()
        assert (broken.did, len(other.checked_at)) == (["aborted"] * looks, looks)
        assert connections._timer is not None, "the next look is due"


async def test_oldest_held_bytes_give_way(clock: Clock) -> None:
    connections = Connections(ServerLimits(heads_in_flight=1000), clock)
    first, second, third = (FakeConnection(f"192.0.2.{number}") for number in range(3))
    for connection in (first, second, third):
        connections.hold(connection, 300)
    connections.hold(first, 400)
    assert [each.did for each in (first, second, third)] == [[], [], []]
    connections.hold(third, 700)
    assert [each.did for each in (first, second, third)] == [["refused"], [], []]
    connections.hold(second, 0)
    connections.hold(second, 400)
    assert [each.did for each in (first, second, third)] == [["refused"], [], ["refused"]]
    assert connections._held_bytes == 400
