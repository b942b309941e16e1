"""The whole limiter, as a process opens it, while a real server is refused, frozen, read-only, or restarted."""

import asyncio
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from redis import Redis as BlockingRedis

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.config import Settings, load_settings
from platform_app.errors import LimiterUnavailable
from platform_app.rate_limit.limiters.failover import FailoverLimiter
from platform_app.rate_limit.limiters.opening import open_limiter
from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.rule import Kind, Rule
from tests.support.gateway.http import until
from tests.support.limits.limiter import charge, counter_name, lease, tokens
from tests.support.servers.valkey import own_server
from tests.support.timing.responsive_time import responsive_time


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedValkey]:
    with own_server() as server:
        yield server


TIMEOUT_SECONDS = 0.4
"""The gateway has 0.05, in which a busy machine's server does not always respond although nothing is wrong with it."""
RECOVERY_SECONDS = 5.0


def settings_of(server: EmbeddedValkey, replicas: int = 2, timeout_seconds: float = TIMEOUT_SECONDS) -> Settings:
    return load_settings(
        database_url="postgresql://unused",
        redis_url=server.url,
        replicas=replicas,
        redis_timeout_ms=int(1000 * timeout_seconds),
    )


async def recovered(limiter: FailoverLimiter) -> float:
    """Wait until the limiter uses the server again. For how many seconds it had to, see ResponsiveTime."""
    async with responsive_time() as spent:
        await until(lambda: not limiter.degraded)
    return spent.seconds


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


FAILURES: dict[str, tuple[Callable[[EmbeddedValkey], None], Callable[[EmbeddedValkey], None]]] = {
    "refused": (kill, EmbeddedValkey.start),
    "frozen": (EmbeddedValkey.pause, EmbeddedValkey.resume),
    "read-only": (make_read_only, make_writable),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_outage_degrades_to_share_and_recovers(own_valkey: EmbeddedValkey, failure: str) -> None:
    """Each of two replicas gets half of each limit, and the shared limits apply again within 5 s of the recovery."""
    begin, end = FAILURES[failure]
    async with open_limiter(settings_of(own_valkey)) as limiter:
        assert (await limiter.acquire([charge()])).allowed
        await recovered(limiter)
        begin(own_valkey)
        each, weighed, slot = charge(limit=10), tokens(limit=1000, units=100), lease(limit=4)
        async with responsive_time() as spent:
            first = await limiter.acquire([each])
        assert spent.seconds < 2 * TIMEOUT_SECONDS
        assert first.states[0].remaining == 4
        assert sum([(await limiter.acquire([each])).allowed for _ in range(10)]) == 4
        held = [await limiter.acquire([weighed, slot]) for _ in range(4)]
        assert [decision.allowed for decision in held] == [True, True, False, False]
        for decision in held:
            decision.admission.settle(10, None)
        assert [state.remaining for state in await limiter.read([weighed, slot])] == [480, 2]
        assert limiter.degraded
        end(own_valkey)
        assert await recovered(limiter) < RECOVERY_SECONDS
        # The shared counter counted no request of the outage, except the one that a frozen server executed too late.
        left = (await limiter.acquire([each])).states[0].remaining
        assert left == (8 if failure == "frozen" else 9)


@pytest.mark.parametrize("failure", FAILURES)
async def test_closed_rule_refuses_during_outage(own_valkey: EmbeddedValkey, failure: str) -> None:
    begin, end = FAILURES[failure]
    strict = Charge(
        Rule("strict", "key", "tokens", 1000, Kind.RESERVED_WINDOW, window_seconds=60, refuses_on_outage=True),
        counter_name(),
        100,
    )
    async with open_limiter(settings_of(own_valkey)) as limiter:
        (await limiter.acquire([strict])).admission.release()
        begin(own_valkey)
        for _ in range(5):
            async with responsive_time() as spent:
                with pytest.raises(LimiterUnavailable) as caught:
                    await limiter.acquire([charge(), strict])
            assert spent.seconds < 2 * TIMEOUT_SECONDS
            assert caught.value.retry_after is not None
            assert "strict" in caught.value.message
        assert (await limiter.acquire([charge()])).allowed
        end(own_valkey)
        assert await recovered(limiter) < RECOVERY_SECONDS
        (await limiter.acquire([strict])).admission.release()


async def test_flushed_scripts_are_loaded_again(own_valkey: EmbeddedValkey) -> None:
    async with open_limiter(settings_of(own_valkey)) as limiter:
        each, weighed = charge(limit=10), tokens(units=100)
        decision = await limiter.acquire([each, weighed])
        with commanded(own_valkey) as client:
            client.script_flush()
        decision.admission.settle(30, None)
        with commanded(own_valkey) as client:
            client.script_flush()
        assert (await limiter.acquire([each])).states[0].remaining == 8
        assert (await limiter.read([weighed]))[0].remaining == 970
        assert not limiter.degraded


async def test_outage_leaves_no_reservations_behind(own_valkey: EmbeddedValkey) -> None:
    async with open_limiter(settings_of(own_valkey)) as limiter:
        slot = lease(limit=4)
        running = [await limiter.acquire([slot]) for _ in range(2)]
        own_valkey.pause()
        asked = await asyncio.gather(*(limiter.acquire([slot]) for _ in range(10)))  # the server will get these late
        running[0].admission.release()
        for decision in asked:
            decision.admission.release()
        own_valkey.resume()
        assert await recovered(limiter) < RECOVERY_SECONDS
        shared = limiter._shared
        assert await shared.renew_now()  # type: ignore[attr-defined]  # the background task's next turn
        assert (await limiter.read([slot]))[0].remaining == 3
        running[1].admission.release()
        await shared.aclose()  # waits for settlements
        assert (await limiter.read([slot]))[0].remaining == 4


async def test_frozen_server_under_load_delays_few_requests(
    own_valkey: EmbeddedValkey, show_figure: Callable[[str], None]
) -> None:
    """Requests of ten clients, a hundred a second each at most: before, through a freeze of 2.5 s or more, and after.
    With the gateway's own timeout of 50 ms."""
    took: list[float] = []
    going = True
    async with (
        open_limiter(settings_of(own_valkey, replicas=1, timeout_seconds=0.05)) as limiter,
        responsive_time() as spent,
    ):

        async def client() -> None:
            each = [charge(limit=1_000_000), tokens(limit=1_000_000, units=10), lease(limit=1000)]
            while going:
                started = spent.seconds
                decision = await limiter.acquire(each)
                took.append(1000 * (spent.seconds - started))
                assert decision.allowed
                decision.admission.settle(5, None)
                await asyncio.sleep(0.01)

        async def more(seconds: float) -> list[float]:
            """Milliseconds of the requests from now on; at least 200 of them."""
            before = len(took)
            await asyncio.sleep(seconds)
            await until(lambda: len(took) >= before + 200)
            return took[before:]

        clients = [asyncio.create_task(client()) for _ in range(10)]
        before = await more(1.0)
        await recovered(limiter)
        own_valkey.pause()
        await until(lambda: limiter.degraded)
        first, second = await more(1.0), await more(1.5)
        own_valkey.resume()
        recovered_after = await recovered(limiter)
        after = await more(0.5)
        going = False
        await asyncio.gather(*clients)

    show_figure(
        f"milliseconds, median: before {statistics.median(before):.0f}, in the outage from its second second on "
        f"{statistics.median(second):.0f}, after {statistics.median(after):.0f}; slowest of all {max(took):.0f}; "
        f"recovered after {recovered_after:.2f} s"
    )
    assert max(took) < 150, "50 for the server, and some for the loop"
    assert max(first + second) < 100
    assert statistics.median(second) < 5
    assert recovered_after < RECOVERY_SECONDS
