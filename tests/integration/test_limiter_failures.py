"""The whole limiter, as a process opens it, while a real server is refused, frozen, read-only, full, or restarted."""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from redis import Redis as BlockingRedis

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.config import Settings, load_settings
from platform_app.errors import LimiterUnavailable
from platform_app.rate_limit.rule import Kind, Rule
from platform_app.rate_limit.rules import Charge
from platform_app.resources import open_limiter
from tests.support.http import until
from tests.support.limiter import charge, counter_name, lease, tokens
from tests.support.stalls import Stalls
from tests.support.valkey import own_server


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedValkey]:
    with own_server() as server:
        yield server


def settings_of(server: EmbeddedValkey, replicas: int = 2) -> Settings:
    return load_settings(database_url="postgresql://unused", redis_url=server.url, replicas=replicas)


@contextmanager
def commanded(server: EmbeddedValkey) -> Iterator["BlockingRedis"]:
    client = BlockingRedis.from_url(server.url)
    yield client
    client.close()


def kill(server: EmbeddedValkey) -> None:
    server.kill()


def make_read_only(server: EmbeddedValkey) -> None:
    with commanded(server) as client:
        client.replicaof("127.0.0.1", "1")


def make_writable(server: EmbeddedValkey) -> None:
    with commanded(server) as client:
        client.replicaof("NO", "ONE")


def fill(server: EmbeddedValkey) -> None:
    with commanded(server) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")


def make_room(server: EmbeddedValkey) -> None:
    with commanded(server) as client:
        client.config_set("maxmemory", "0")


FAILURES: dict[str, tuple[Callable[[EmbeddedValkey], None], Callable[[EmbeddedValkey], None]]] = {
    "refused": (kill, EmbeddedValkey.start),
    "frozen": (EmbeddedValkey.pause, EmbeddedValkey.resume),
    "read-only": (make_read_only, make_writable),
    "out of memory": (fill, make_room),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_it_degrades_to_a_share_and_recovers_by_itself(own_valkey: EmbeddedValkey, failure: str) -> None:
    """Half of each limit, for two replicas; and within 5 s of the server's return all is as before."""
    begin, end = FAILURES[failure]
    async with open_limiter(settings_of(own_valkey)) as limiter:
        assert (await limiter.acquire([charge()])).allowed
        begin(own_valkey)
        each, weighed, slot = charge(limit=10), tokens(limit=1000, cost=100), lease(limit=4)
        started = time.perf_counter()
        first = await limiter.acquire([each])
        assert time.perf_counter() - started < 0.1
        assert first.states[0].remaining == 4
        assert sum([(await limiter.acquire([each])).allowed for _ in range(10)]) == 4
        held = [await limiter.acquire([weighed, slot]) for _ in range(4)]
        assert [decision.allowed for decision in held] == [True, True, False, False]
        for decision in held:
            decision.admission.settle(10, None)
        assert [state.remaining for state in await limiter.read([weighed, slot])] == [480, 2]
        assert limiter.degraded
        end(own_valkey)
        ended = time.perf_counter()
        await until(lambda: not limiter.degraded, 5)
        assert time.perf_counter() - ended < 5
        # The shared counter saw nothing of it, but for the request that a frozen server answered too late.
        left = (await limiter.acquire([each])).states[0].remaining
        assert left == (8 if failure == "frozen" else 9)


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_closed_rule_refuses_meanwhile(own_valkey: EmbeddedValkey, failure: str) -> None:
    begin, end = FAILURES[failure]
    strict = Charge(
        Rule("strict", "key", "tokens", 1000, Kind.RESERVED_WINDOW, window_seconds=60, closed=True), counter_name(), 100
    )
    async with open_limiter(settings_of(own_valkey)) as limiter:
        (await limiter.acquire([strict])).admission.release()
        begin(own_valkey)
        for _ in range(5):
            started = time.perf_counter()
            with pytest.raises(LimiterUnavailable) as caught:
                await limiter.acquire([charge(), strict])
            assert time.perf_counter() - started < 0.1
            assert caught.value.retry_after is not None
            assert "strict" in caught.value.message
        assert (await limiter.acquire([charge()])).allowed
        end(own_valkey)
        await until(lambda: not limiter.degraded, 5)
        (await limiter.acquire([strict])).admission.release()


async def test_flushed_scripts_are_loaded_again_without_a_failure(own_valkey: EmbeddedValkey) -> None:
    async with open_limiter(settings_of(own_valkey)) as limiter:
        each, weighed = charge(limit=10), tokens(cost=100)
        decision = await limiter.acquire([each, weighed])
        with commanded(own_valkey) as client:
            client.script_flush()
        decision.admission.settle(30, None)
        with commanded(own_valkey) as client:
            client.script_flush()
        assert (await limiter.acquire([each])).states[0].remaining == 8
        assert (await limiter.read([weighed]))[0].remaining == 970
        assert not limiter.degraded


async def test_requests_that_ran_through_an_outage_leave_nothing_behind(own_valkey: EmbeddedValkey) -> None:
    async with open_limiter(settings_of(own_valkey)) as limiter:
        slot = lease(limit=4)
        running = [await limiter.acquire([slot]) for _ in range(2)]
        own_valkey.pause()
        asked = await asyncio.gather(*(limiter.acquire([slot]) for _ in range(10)))  # the server will get these late
        running[0].admission.release()
        for decision in asked:
            decision.admission.release()
        await asyncio.sleep(0.1)
        own_valkey.resume()
        await until(lambda: not limiter.degraded, 5)
        shared = limiter._shared
        assert await shared.renew_now()  # type: ignore[attr-defined]  # the background task's next turn
        assert (await limiter.read([slot]))[0].remaining == 3
        running[1].admission.release()
        await asyncio.sleep(0.05)
        assert (await limiter.read([slot]))[0].remaining == 4


async def test_frozen_under_load(own_valkey: EmbeddedValkey, show_figure: Callable[[str], None]) -> None:
    """Requests of ten clients, a hundred a second each at most: before, through 2.5 s of freezing, and after."""
    finished: list[tuple[float, float]] = []
    async with open_limiter(settings_of(own_valkey, replicas=1)) as limiter:
        stalls = Stalls()
        going = True

        async def client(number: int) -> None:
            each = [charge(limit=1_000_000), tokens(limit=1_000_000, cost=10), lease(limit=1000)]
            while going:
                started = time.monotonic()
                decision = await limiter.acquire(each)
                finished.append((started, time.monotonic() - started))
                assert decision.allowed
                decision.admission.settle(5, None)
                await asyncio.sleep(0.01)

        with stalls:
            clients = [asyncio.create_task(client(number)) for number in range(10)]
            await asyncio.sleep(1.0)
            frozen_at = time.monotonic()
            own_valkey.pause()
            await asyncio.sleep(2.5)
            own_valkey.resume()
            resumed_at = time.monotonic()
            await until(lambda: not limiter.degraded, 5)
            recovered_after = time.monotonic() - resumed_at
            await asyncio.sleep(0.5)
            going = False
            await asyncio.gather(*clients)

    def took(first: float, last: float) -> list[float]:
        return sorted(1000 * seconds for at, seconds in finished if frozen_at + first <= at < frozen_at + last)

    before, second = took(-1, 0), took(1, 2)
    slowest = max(1000 * seconds for at, seconds in finished if at >= frozen_at - 0.05)
    show_figure(
        f"milliseconds, median: before {statistics.median(before):.2f}, second second of the outage "
        f"{statistics.median(second):.2f} (p99 {second[len(second) * 99 // 100]:.2f}); slowest of all "
        f"{slowest:.0f} (the machine's longest stall: {stalls.longest_ms:.0f}); recovered after {recovered_after:.2f} s"
    )
    assert slowest < statistics.median(before) + 100 + stalls.longest_ms
    assert statistics.median(second) < statistics.median(before) + 2
    assert len(second) > 100
    assert recovered_after < 5
