"""Counting failed authentications by address, with the real local limiter on a fake clock and with fakes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.observability.networks import network_of
from platform_app.rate_limit import auth_failures as failure_throttle
from platform_app.rate_limit.auth_failures import WINDOW_SECONDS, AddressThrottle
from platform_app.rate_limit.limiters.local import LocalLimiter
from tests.support.fakes.core import FakeClock, FakeLimiter

LIMIT = 5


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.throttle = AddressThrottle(LocalLimiter(1, self.clock), LIMIT, self.clock)

    def passes(self, address: str) -> bool:
        return self.throttle.refusal(address) is None

    async def fail(self, address: str, times: int = 1) -> None:
        for _ in range(times):
            await self.throttle.failed(address)


@pytest.fixture
def world() -> World:
    return World()


async def test_failures_up_to_the_limit_are_allowed(world: World) -> None:
    for _ in range(LIMIT):
        assert world.passes("192.0.2.1")
        await world.fail("192.0.2.1")
    assert not world.passes("192.0.2.1")
    assert world.passes("192.0.2.2")


async def test_refusal_has_retry_after(world: World) -> None:
    await world.fail("192.0.2.1", LIMIT)
    refusal = world.throttle.refusal("192.0.2.1")
    assert refusal is not None
    wait = refusal.retry_after
    assert wait is not None
    assert WINDOW_SECONDS <= wait <= WINDOW_SECONDS * 1.02
    assert "192.0.2.1" not in refusal.message


async def test_address_is_allowed_after_the_wait(world: World) -> None:
    await world.fail("192.0.2.1", LIMIT)
    refusal = world.throttle.refusal("192.0.2.1")
    assert refusal is not None
    wait = refusal.retry_after or 0.0
    world.clock.advance(wait - 0.01)
    assert not world.passes("192.0.2.1")
    world.clock.advance(0.02)
    assert world.passes("192.0.2.1")
    await world.fail("192.0.2.1", LIMIT)
    assert not world.passes("192.0.2.1")


async def test_failures_below_the_rate_are_not_throttled(world: World) -> None:
    for _ in range(10 * LIMIT):
        world.clock.advance(WINDOW_SECONDS / LIMIT + 1)
        assert world.passes("192.0.2.1")
        await world.fail("192.0.2.1")


async def test_check_makes_no_limiter_call(world: World) -> None:
    limiter = FakeLimiter()
    throttle = AddressThrottle(limiter, LIMIT, world.clock)
    assert throttle.refusal("192.0.2.1") is None
    assert limiter.asked == []
    await throttle.failed("192.0.2.1")
    ((charge,),) = limiter.asked
    assert charge.counter == "fbp:rl:{192.0.2.1}:auth-failures"
    assert (charge.rule.limit, charge.rule.window_seconds, charge.units) == (LIMIT, 60, 1)


async def test_denial_of_another_process_throttles(world: World) -> None:
    """The limiter denies the very first failure that this process counts."""
    limiter = FakeLimiter()
    limiter.deny_seconds = 30.0
    throttle = AddressThrottle(limiter, LIMIT, world.clock)
    assert throttle.refusal("192.0.2.1") is None
    await throttle.failed("192.0.2.1")
    refusal = throttle.refusal("192.0.2.1")
    assert refusal is not None
    assert refusal.retry_after == 30.0
    world.clock.advance(29.5)
    assert throttle.refusal("192.0.2.1") is not None
    world.clock.advance(0.5)
    assert throttle.refusal("192.0.2.1") is None


async def test_unavailable_limiter_refuses_no_address(world: World) -> None:
    limiter = FakeLimiter()
    limiter.down = True
    throttle = AddressThrottle(limiter, LIMIT, world.clock)
    for _ in range(3 * LIMIT):
        await throttle.failed("192.0.2.1")
        assert throttle.refusal("192.0.2.1") is None


async def test_refused_addresses_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_throttle, "MAX_ADDRESSES", 3)
    addresses = [f"192.0.2.{number}" for number in range(5)]
    for address in addresses:
        await world.fail(address, LIMIT)
    assert [world.passes(address) for address in addresses] == [True, True, False, False, False]


class Refused:
    """Addresses that a limiter denies at once, for as long as the test says; two are remembered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(failure_throttle, "MAX_ADDRESSES", 2)
        self.clock, self._limiter = FakeClock(), FakeLimiter()
        self._throttle = AddressThrottle(self._limiter, LIMIT, self.clock)

    async def add(self, address: str, seconds: float) -> None:
        self._limiter.deny_seconds = seconds
        await self._throttle.failed(address)

    def of(self, *addresses: str) -> list[str]:
        return [address for address in addresses if self._throttle.refusal(address) is not None]


async def test_address_that_may_try_again_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Refused(monkeypatch)
    await refused.add("long", 60)
    await refused.add("short", 1)
    refused.clock.advance(1)
    assert refused.of("short") == []
    await refused.add("new", 60)
    assert refused.of("long", "short", "new") == ["long", "new"]


async def test_address_that_failed_again_is_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Refused(monkeypatch)
    await refused.add("again", 1)
    await refused.add("once", 60)
    refused.clock.advance(1)
    await refused.add("again", 60)
    await refused.add("new", 60)
    assert refused.of("again", "once", "new") == ["again", "new"]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:DB8:0:0:FFFF::1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("fe80::1%another", "fe80::/64"),
        ("unix", "unix"),
        ("", ""),
        ("x" * 100, "x" * 64),
    ],
)
def test_network_of_an_address(address: str, network: str) -> None:
    assert network_of(address) == network


@given(st.ip_addresses(v=6))
def test_addresses_of_a_64_have_one_network(address: object) -> None:
    text = str(address)
    network = network_of(text)
    assert network_of(network.partition("/")[0]) == network or network.count(".") == 3


@given(st.text(max_size=200) | st.ip_addresses().map(str))
def test_network_of_any_text_is_short(text: str) -> None:
    assert len(network_of(text)) <= 64
