"""New calendar counters on a real Valkey are seeded with what was spent before."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from platform_app.errors import LimiterUnavailable
from platform_app.rate_limit import rule
from platform_app.rate_limit.limiter import CountersUnknown
from platform_app.rate_limit.limiters import seeding
from platform_app.rate_limit.limiters.failover import FailoverLimiter
from platform_app.rate_limit.limiters.local import LocalLimiter
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.limiters.scripts import ACQUIRE, SEED
from platform_app.rate_limit.limiters.seeding import HistoryUnavailable, Seeder, StaleBudgets
from platform_app.rate_limit.matching import Charge, LimitedRequest
from platform_app.rate_limit.reservations import RESERVATION_SECONDS
from platform_app.rate_limit.rule import Rule
from platform_app.redis.client import PipelinedRedis
from platform_app.redis.scripts import Script
from tests.support.fakes.core import Count
from tests.support.limits.limiter import SECOND, TimedScripts, charge, cost, counter_name, delete, settled, tokens

DAY = 86_400 * SECOND
WHO = LimitedRequest("k" * 12, "team-a", "/v1/platform/chat", "m")


class History:
    """A ledger that knows of `units`, or cannot be read; notes what it was asked."""

    def __init__(self, units: int = 0) -> None:
        self.units = units
        self.down = False
        self.wait: asyncio.Event | None = None
        self.asked: list[tuple[str, str, int]] = []

    async def used(self, rule: Rule, usage: LimitedRequest, since_microseconds: int) -> int:
        self.asked.append((rule.name, usage.key_id, since_microseconds))
        if self.wait is not None:
            await self.wait.wait()
        if self.down:
            raise HistoryUnavailable("no database")
        return self.units


class Counting(TimedScripts):
    """Scripts on the test's clock that are counted."""

    def __init__(self, client: PipelinedRedis) -> None:
        super().__init__(client)
        self.ran: list[Script] = []

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> "asyncio.Future[Any]":
        self.ran.append(script)
        return super().run(script, keys, arguments)


@pytest.fixture
def counting(scripts: PipelinedRedis, monkeypatch: pytest.MonkeyPatch) -> Counting:
    clock = Counting(scripts)
    monkeypatch.setattr(rule, "time", SimpleNamespace(time=lambda: clock.now / SECOND))
    return clock


@pytest.fixture
def history() -> History:
    return History()


@pytest.fixture
async def limiter(counting: Counting, history: History) -> AsyncIterator[RedisLimiter]:
    limiter = RedisLimiter(counting, seeder=Seeder(counting, history))
    yield limiter
    await limiter.aclose()


def budget(limit: int = 1000, units: int = 100, **changes: Any) -> Charge:
    made = cost(limit=limit, units=units)
    return replace(made, usage=WHO, rule=replace(made.rule, **changes))


async def spend(limiter: RedisLimiter, each: Charge, units: int) -> None:
    (await limiter.acquire([each])).admission.settle(None, units)
    await settled(limiter)


async def left(limiter: RedisLimiter, each: Charge) -> int:
    [state] = await limiter.read([each])
    return state.remaining


async def test_new_counter_starts_at_ledgers_use(limiter: RedisLimiter, counting: Counting, history: History) -> None:
    """The ledger is read once, for the server's current period."""
    history.units = 560
    each = budget()
    decision = await limiter.acquire([each])
    assert [state.remaining for state in decision.states] == [1000 - 560 - 100]
    assert history.asked == [("c", WHO.key_id, counting.now // DAY * DAY)]
    decision.admission.settle(None, 40)
    await settled(limiter)
    assert await left(limiter, each) == 1000 - 560 - 40


async def test_seeded_counter_causes_no_read(limiter: RedisLimiter, counting: Counting, history: History) -> None:
    """There is neither an extra round trip nor a read of the ledger."""
    each = budget()
    await spend(limiter, each, 10)
    counting.ran.clear()
    history.asked.clear()
    for _ in range(5):
        (await limiter.acquire([each])).admission.release()
        await settled(limiter)
    assert counting.ran.count(ACQUIRE) == 5
    assert SEED not in counting.ran
    assert history.asked == []


async def test_spent_budget_denies_first_request(limiter: RedisLimiter, history: History) -> None:
    history.units = 950
    decision = await limiter.acquire([budget()])
    assert decision.denied_by is not None
    assert (decision.denied_by.rule.name, decision.denied_by.remaining) == ("c", 50)


async def test_lost_counter_is_seeded_again(limiter: RedisLimiter, redis: "Redis", history: History) -> None:
    each = budget()
    await spend(limiter, each, 300)
    await delete(redis, [each])
    history.units = 300
    (await limiter.acquire([each])).admission.release()
    await settled(limiter)
    assert await left(limiter, each) == 700


async def test_settlement_before_read_is_not_lost(limiter: RedisLimiter, redis: "Redis", history: History) -> None:
    """Redis restarts while a request runs; its settlement makes the counter, which stays without a beginning."""
    each = budget()
    running = await limiter.acquire([each])
    await delete(redis, [each])
    running.admission.settle(None, 70)
    await settled(limiter)
    history.units = 560 + 70  # its record was written before it was settled
    (await limiter.acquire([each])).admission.release()
    await settled(limiter)
    assert await left(limiter, each) == 1000 - 630


async def test_settlement_during_read_is_added(limiter: RedisLimiter, redis: "Redis", history: History) -> None:
    each = budget()
    running = await limiter.acquire([each])
    await delete(redis, [each])
    history.units, history.wait = 560, asyncio.Event()
    asking = asyncio.create_task(limiter.acquire([each]))
    while len(history.asked) < 2:
        await asyncio.sleep(0.001)
    running.admission.settle(None, 70)
    await settled(limiter)
    history.wait.set()
    (await asking).admission.release()
    await settled(limiter)
    assert await left(limiter, each) == 1000 - 630


async def test_concurrent_requests_share_one_read(limiter: RedisLimiter, history: History) -> None:
    history.units, each = 500, budget(units=10)
    told = Count("platform_budget_seeds_total", outcome="told")
    decisions = await asyncio.gather(*(limiter.acquire([each]) for _ in range(20)))
    assert all(decision.allowed for decision in decisions)
    assert len(history.asked) == 1
    assert told.grown == 1
    assert min(decision.states[0].remaining for decision in decisions) == 1000 - 500 - 20 * 10


async def test_two_processes_seed_once(counting: Counting, history: History) -> None:
    each = budget(units=10)
    history.units = 500
    limiters = [RedisLimiter(counting, seeder=Seeder(counting, history)) for _ in range(2)]
    await asyncio.gather(*(limiter.acquire([each]) for limiter in limiters for _ in range(5)))
    assert await left(limiters[0], each) == 1000 - 500 - 100


async def test_script_returns_how_many_counters_it_seeded(counting: Counting) -> None:
    """A counter that is complete is only seeded again if that is asked for."""
    names, times = [counter_name(), counter_name()], cost().rule.script_time()

    async def seed(again: int) -> object:
        return await counting.run(SEED, names, [64, "holder", 20_000, *[times[1], 5, 0, again, *times] * 2])

    assert [await seed(again) for again in (0, 0, 1)] == [2, 0, 2]


async def test_existing_counter_needs_no_read_in_next_period(
    limiter: RedisLimiter, counting: Counting, history: History
) -> None:
    """A counter that Redis still has needs no read at midnight."""
    each = budget()
    await spend(limiter, each, 900)
    counting.now = (counting.now // DAY + 1) * DAY + SECOND
    history.units = 999
    (await limiter.acquire([each])).admission.release()
    await settled(limiter)
    assert await left(limiter, each) == 1000
    assert len(history.asked) == 1


async def test_period_end_during_read_charges_new_period(
    limiter: RedisLimiter, counting: Counting, history: History
) -> None:
    """What was spent in the period before is not charged to the new one."""
    each = budget()
    history.units, history.wait = 900, asyncio.Event()
    asking = asyncio.create_task(limiter.acquire([each]))
    while not history.asked:
        await asyncio.sleep(0.001)
    counting.now = (counting.now // DAY + 1) * DAY + SECOND
    history.units = 30
    history.wait.set()
    (await asking).admission.release()
    await settled(limiter)
    assert await left(limiter, each) == 970


async def test_calendar_tokens_are_seeded(limiter: RedisLimiter, history: History) -> None:
    history.units = 800
    each = replace(budget(), rule=replace(budget().rule, unit="tokens"))
    assert (await limiter.acquire([each])).states[0].remaining == 100


async def test_other_kinds_cause_no_read(limiter: RedisLimiter, history: History) -> None:
    assert (await limiter.acquire([charge(), tokens()])).allowed
    assert history.asked == []


async def test_shadow_budget_is_seeded(limiter: RedisLimiter, history: History) -> None:
    history.units = 950
    decision = await limiter.acquire([budget(shadow=True)])
    assert (decision.allowed, decision.states[0].shadow_denied) == (True, True)


async def test_read_seeds_counters(limiter: RedisLimiter, history: History) -> None:
    """The page of a key's limits is right after a restart of Redis, before any request."""
    history.units, each = 560, budget()
    assert await left(limiter, each) == 440
    history.down = True
    other = budget()
    assert await left(limiter, other) == 1000, "as it stands"


async def test_counter_seeded_by_read_expires(limiter: RedisLimiter, counting: Counting, history: History) -> None:
    """No charge follows a read, so seeding itself must set the expiry."""
    history.units, each = 560, budget()
    assert await left(limiter, each) == 440
    lifetime = await counting.lifetime_ms(each.counter)
    assert lifetime is not None
    assert 0 < lifetime <= DAY / 1000 + 1000 * RESERVATION_SECONDS


async def test_cancelled_request_during_seeding_reserves_nothing(limiter: RedisLimiter, history: History) -> None:
    history.wait, each = asyncio.Event(), budget()
    asking = asyncio.create_task(limiter.acquire([each]))
    while not history.asked:
        await asyncio.sleep(0.001)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    history.wait.set()
    while not await limiter_told(limiter, each):
        await asyncio.sleep(0.001)
    assert await left(limiter, each) == 1000


async def limiter_told(limiter: RedisLimiter, each: Charge) -> bool:
    seeder = limiter._seeder
    assert seeder is not None
    return each.counter not in seeder._tasks


async def test_unreadable_ledger_is_not_read_again_at_once(limiter: RedisLimiter, history: History) -> None:
    failed = Count("platform_budget_seeds_total", outcome="failed")
    history.down = True
    for _ in range(10):
        with pytest.raises(CountersUnknown):
            await limiter.acquire([budget()])
    assert len(history.asked) == 1
    assert failed.grown == 1


async def test_slow_ledger_is_waited_for_briefly(
    counting: Counting, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The read continues, and its result counts from then on."""
    monkeypatch.setattr(seeding, "WAIT_SECONDS", 0.01)
    limiter = RedisLimiter(counting, seeder=Seeder(counting, history))
    history.units, history.wait, each = 560, asyncio.Event(), budget()
    with pytest.raises(CountersUnknown):
        await limiter.acquire([each])
    history.wait.set()
    while not await limiter_told(limiter, each):
        await asyncio.sleep(0.001)
    assert (await limiter.acquire([each])).states[0].remaining == 340
    assert len(history.asked) == 1


def joined(counting: Counting, history: History, processes: int = 2) -> FailoverLimiter:
    stale = StaleBudgets()
    shared = RedisLimiter(counting, seeder=Seeder(counting, history, stale))
    return FailoverLimiter(shared, LocalLimiter(processes, wall_clock=lambda: counting.now / SECOND, stale=stale))


async def test_unknown_budget_gets_its_share(counting: Counting, history: History) -> None:
    """As while Redis is down, and the rest of the limiter stays as it is."""
    history.down = True
    limiter, each = joined(counting, history), budget()
    admitted = [(await limiter.acquire([each])).allowed for _ in range(8)]
    assert admitted == [True] * 5 + [False] * 3
    assert not limiter.degraded
    assert (await limiter.acquire([charge()])).allowed


async def test_unknown_closed_budget_refuses(counting: Counting, history: History) -> None:
    history.down = True
    limiter = joined(counting, history)
    with pytest.raises(LimiterUnavailable, match="the limit 'c' refuses requests"):
        await limiter.acquire([budget(refuses_on_outage=True)])


async def test_locally_spent_share_is_counted_afterwards(
    counting: Counting, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this process decided by itself is in the ledger, and so in the counter once it is seeded."""
    monkeypatch.setattr(seeding, "RETRY_SECONDS", 0.0)
    history.down = True
    limiter, each = joined(counting, history), budget()
    (await limiter.acquire([each])).admission.settle(None, 90)
    history.down, history.units = False, 90
    decision = await limiter.acquire([each])
    assert decision.states[0].remaining == 1000 - 90 - 100


async def test_counter_is_complete_after_redis_outage(counting: Counting, history: History) -> None:
    """Redis was unavailable and lost nothing; what was charged meanwhile is seeded when it is back."""
    limiter, each = joined(counting, history), budget()
    decision = await limiter.acquire([each])
    decision.admission.settle(None, 200)
    limiter.degraded = True  # as the first failed call makes it
    (await limiter.acquire([each])).admission.settle(None, 90)
    limiter.degraded = False
    history.units = 290
    decision = await limiter.acquire([each])
    assert decision.states[0].remaining == 1000 - 290 - 100
    history.asked.clear()
    await limiter.acquire([each])
    assert history.asked == []


async def test_budgets_start_at_zero_without_history(counting: Counting) -> None:
    assert (await RedisLimiter(counting).acquire([budget()])).states[0].remaining == 900


def test_stale_budgets_are_bounded() -> None:
    stale = StaleBudgets()
    names: Sequence[str] = [str(number) for number in range(seeding.MAX_STALE + 5)]
    for name in names:
        stale.add(name)
    assert sum(name in stale for name in names) == seeding.MAX_STALE
