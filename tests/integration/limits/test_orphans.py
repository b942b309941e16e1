"""What a process reserved that died while its requests ran: settled once, as used, by another process."""

from collections.abc import AsyncIterator

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.errors import LimiterUnavailable
from platform_app.observability.ids import trace_id as new_id
from platform_app.rate_limit.limiter import Admission
from platform_app.rate_limit.limiters.orphan_settlements import OrphanSettlements
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.reservations import RESERVATION_SECONDS
from platform_app.redis.client import PipelinedRedis
from tests.support.limits.limiter import START, TimedScripts, charge, cheaper, cost, lease, remaining, settled, tokens
from tests.support.servers.network.ports import free_port

DAY_SECONDS = 86_400


class Process:
    """A gateway's process, as far as limits go: it dies by being forgotten."""

    def __init__(self, scripts: TimedScripts) -> None:
        self.limiter = RedisLimiter(scripts)
        self.admissions: list[Admission] = []

    async def admit(self, *charges: Charge) -> object:
        """Begin a request; the settlement that its intent holds, as another process reads it."""
        decision = await self.limiter.acquire(charges)
        assert decision.allowed
        self.admissions.append(decision.admission)
        return as_read(decision.admission)

    def die(self) -> None:
        for admission in self.admissions:
            admission._limiter = None  # type: ignore[attr-defined]  # what is thrown away settles itself, and the dead do not


def as_read(admission: Admission) -> object:
    return orjson.loads(orjson.dumps(admission.settlement()))


async def test_settlement_is_remembered_for_seven_days(timed: TimedScripts, redis: "Redis") -> None:
    """Sending it again within that time has no effect."""
    dead, event_id = Process(timed), new_id()
    settlement = await dead.admit(tokens())
    dead.die()
    await OrphanSettlements(timed).settle(event_id, settlement)
    [mark] = await redis.keys(f"*:settled:{event_id}")
    assert 0 <= 7 * DAY_SECONDS - await redis.ttl(mark) < 600


@pytest.mark.parametrize("late", [0, RESERVATION_SECONDS + 1], ids=["while it holds", "after its holds ended"])
async def test_orphan_is_charged_its_reservation_once(timed: TimedScripts, late: float) -> None:
    of_tokens, of_cost, of_leases, of_requests = tokens(units=300), cost(units=200), lease(), charge()
    dead, survivor = Process(timed), RedisLimiter(timed)
    settlement = await dead.admit(of_tokens, of_cost, of_leases, of_requests)
    dead.die()
    timed.advance(late)
    orphans = OrphanSettlements(timed)
    event_id = new_id()
    assert await orphans.settle(event_id, settlement)
    expected = [700, 800, 10, 9]
    assert await remaining(survivor, of_tokens, of_cost, of_leases, of_requests) == expected
    assert not await orphans.settle(event_id, settlement), "it was settled already"
    assert await remaining(survivor, of_tokens, of_cost, of_leases, of_requests) == expected
    timed.advance(RESERVATION_SECONDS + 1)
    assert await remaining(survivor, of_tokens, of_cost, of_leases) == expected[:3], "and stays charged"


async def test_orphan_charge_counts_from_admission(timed: TimedScripts) -> None:
    """A window or a day that has ended before the settlement is not charged."""
    of_tokens, of_cost = tokens(units=300), cost(units=200)
    dead, survivor = Process(timed), RedisLimiter(timed)
    settlements = [await dead.admit(of_tokens, of_cost) for _ in range(2)]
    dead.die()
    timed.advance(50)
    await OrphanSettlements(timed).settle(new_id(), settlements[0])
    assert await remaining(survivor, of_tokens) == [700]
    timed.advance(12)
    assert await remaining(survivor, of_tokens) == [1000], "62 s after the admission"
    timed.advance(2 * DAY_SECONDS)
    await OrphanSettlements(timed).settle(new_id(), settlements[1])
    assert await remaining(survivor, of_tokens, of_cost) == [1000, 1000]


async def test_other_reservations_of_dead_process_expire(timed: TimedScripts) -> None:
    """Only what has an intent is charged: what ended before was settled by the process itself."""
    counter = tokens(units=100)
    dead, survivor = Process(timed), RedisLimiter(timed)
    orphaned = await dead.admit(counter)
    await dead.admit(counter)
    dead.admissions.pop().settle(30, None)
    await settled(dead.limiter)
    assert await remaining(survivor, counter) == [1000 - 100 - 30]
    dead.die()
    await OrphanSettlements(timed).settle(new_id(), orphaned)
    assert await remaining(survivor, counter) == [1000 - 100 - 30]


async def test_running_process_and_orphan_share_a_counter(timed: TimedScripts) -> None:
    counter = tokens(units=100)
    dead, living = Process(timed), Process(timed)
    settlement = await dead.admit(counter)
    await living.admit(cheaper(counter, 250))
    dead.die()
    await OrphanSettlements(timed).settle(new_id(), settlement)
    assert await remaining(living.limiter, counter) == [650]
    living.admissions.pop().settle(50, None)
    await settled(living.limiter)
    assert await remaining(living.limiter, counter) == [850]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80), st.booleans(), st.booleans()), max_size=8),
    st.integers(0, 30),
)
async def test_settled_and_orphaned_requests_add_up(
    timed: TimedScripts, requests: list[tuple[int, int, bool, bool]], late: int
) -> None:
    """Of any requests of a process some ended before it died; each counts once, by what it used or had reserved."""
    counter = tokens(limit=10_000, window=600)
    timed.now = max(timed.now, START)
    dead, survivor, expected, orphaned = Process(timed), RedisLimiter(timed), 0, []
    for number, (reserved, used, ends, again) in enumerate(requests):
        settlement = await dead.admit(cheaper(counter, reserved))
        if ends:
            dead.admissions.pop().settle(used, None)
            await settled(dead.limiter)
            expected += used
        else:
            orphaned += [(f"{counter.counter}-{number}", settlement)] * (2 if again else 1)
            expected += reserved
    dead.die()
    timed.advance(late)
    for event_id, settlement in orphaned:
        if settlement:
            await OrphanSettlements(timed).settle(event_id, settlement)
    assert await remaining(survivor, counter) == [10_000 - expected]


@pytest.mark.parametrize(
    "settlement",
    [
        None, {}, "x", [1], [{}], [{"holder": 1, "at": 1, "counters": [["a", 1]]}],
        [{"holder": "a", "at": 1, "counters": []}], [{"holder": "a", "at": 1, "counters": [[1, 2]]}],
        [{"holder": "a", "at": 1, "counters": [["a", "2"]]}], [{"holder": "a", "at": 1, "counters": [["a", True]]}],
        [{"holder": "a", "at": 1, "counters": [["a", *range(8)]]}],
    ],
)  # fmt: skip
async def test_malformed_settlement_is_refused(timed: TimedScripts, settlement: object) -> None:
    with pytest.raises(ValueError, match="settlement"):
        await OrphanSettlements(timed).settle(new_id(), settlement)


@pytest.fixture
async def nowhere() -> AsyncIterator[PipelinedRedis]:
    scripts = PipelinedRedis(f"redis://127.0.0.1:{free_port()}/0", 0.2)
    yield scripts
    await scripts.aclose()


async def test_unavailable_redis_raises_and_loses_nothing(
    nowhere: PipelinedRedis, timed: TimedScripts, redis: "Redis", valkey: EmbeddedValkey
) -> None:
    counter = tokens(units=300)
    dead = Process(timed)
    settlement = await dead.admit(counter)
    dead.die()
    with pytest.raises(LimiterUnavailable):
        await OrphanSettlements(nowhere).settle(new_id(), settlement)
    assert await OrphanSettlements(timed).settle(new_id(), settlement)


async def test_concurrency_alone_has_no_settlement(timed: TimedScripts) -> None:
    dead = Process(timed)
    assert await dead.admit(lease(), charge()) == []
    dead.die()
