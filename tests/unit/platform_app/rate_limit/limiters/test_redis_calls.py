"""What the limiter sends to Redis before a request, and what it makes of the reply or of none."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from platform_app.errors import LimiterUnavailable
from platform_app.rate_limit import rule
from platform_app.rate_limit.limiter import NOTHING_RESERVED, CountersUnknown
from platform_app.rate_limit.limiters import redis
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.limiters.scripts import ACQUIRE, READ
from platform_app.rate_limit.limiters.seeding import Seeder
from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.rule import Kind, Rule
from tests.support.fakes.core import Count, FakeClock
from tests.support.limits.limiter import charge, cost, lease, tokens
from tests.support.limits.noted_scripts import AT, NotedScripts, callbacks, noted

SHADOW_WINDOW = Charge(Rule("sw", "key", "requests", 9, window_seconds=60, shadow=True), "sw")
SHADOW_LEASE = Charge(Rule("sl", "key", "concurrent", 9, Kind.CONCURRENCY, shadow=True), "sl")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The limiter's clock, in place of one that moves by itself."""
    clock = FakeClock(500.0)
    monkeypatch.setattr(redis, "time", SimpleNamespace(perf_counter=clock))
    return clock


async def test_acquire_sends_each_kind_of_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "time", SimpleNamespace(time=lambda: AT / 1e6))
    limiter, scripts = noted()
    budget = cost("c", limit=500, units=30)
    charges = [charge("w"), lease("l", limit=4), tokens("t", limit=1000, units=100), budget]
    admissions = [(await limiter.acquire(charges)).admission for _ in range(2)]
    period = budget.rule.script_time()
    assert scripts.sent(ACQUIRE) == [
        (["w", "l", "t", "c"], [
            1, 10, 1, 60_000_000, 2, 4, 1, known[0], 3, 1000, 100, known[1], 60_000_000,
            4, 500, 30, known[2], 0, *period,
        ])
        for known in ((0, 0, 0), (1, 100, 30))
    ]  # fmt: skip
    assert len(admissions) == 2


async def test_processes_of_all_versions_agree_on_buckets() -> None:
    """They share the counters: with other buckets, or another life of a reservation, one would misread the others'."""
    limiter, scripts = noted()
    await limiter.acquire([charge("w")])
    await limiter.read([charge("w")])
    assert [(arguments[0], arguments[2]) for _, _, arguments in scripts.calls] == [(64, 20_000)] * 2


async def test_windows_alone_reserve_nothing() -> None:
    limiter, scripts = noted()
    decision = await limiter.acquire([charge("w"), charge("v")])
    assert decision.admission is NOTHING_RESERVED
    assert (decision.allowed, decision.at_microseconds) == (True, AT)
    assert [(state.remaining, state.reset_seconds) for state in decision.states] == [(5, 1.0)] * 2
    assert len(scripts.calls) == 1


@pytest.mark.parametrize("second", [charge("v"), lease("l")])
async def test_denial_names_its_rule_and_reserves_nothing(second: Charge) -> None:
    limiter, scripts = noted()
    scripts.replies[ACQUIRE] = [[2, AT, 4, 1_500_000, 0, 2_000_000]]
    decision = await limiter.acquire([charge("w"), second])
    assert decision.denied_by is decision.states[1]
    assert [(state.remaining, state.reset_seconds) for state in decision.states] == [(4, 1.5), (0, 2.0)]
    assert [state.shadow_denied for state in decision.states] == [False, False]
    assert decision.at_microseconds == AT
    assert decision.admission is NOTHING_RESERVED
    assert limiter._reservations.counters() == []


async def test_shadow_denial_is_returned_and_not_reserved() -> None:
    limiter, scripts = noted()
    scripts.replies[ACQUIRE] = [[0, AT, -1, 2_000_000, -3, 3_000_000, 8, 0]]
    decision = await limiter.acquire([SHADOW_WINDOW, SHADOW_LEASE, tokens("t")])
    assert [(state.remaining, state.reset_seconds, state.shadow_denied) for state in decision.states] == [
        (0, 2.0, True), (2, 3.0, True), (8, 0.0, False),
    ]  # fmt: skip
    decision.admission.release()
    assert [keys for keys, _ in scripts.settled()] == [["t"]]


async def test_only_shadow_denials_reserve_nothing() -> None:
    limiter, scripts = noted()
    scripts.replies[ACQUIRE] = [[0, AT, -1, 0]]
    assert (await limiter.acquire([SHADOW_LEASE])).admission is NOTHING_RESERVED


async def test_call_is_measured(clock: FakeClock) -> None:
    class Slow(NotedScripts):
        def run(self, *call: object) -> "asyncio.Future[object]":
            clock.advance(0.25)
            return super().run(*call)  # type: ignore[arg-type]

    count = Count("platform_limiter_duration_seconds_count")
    seconds = Count("platform_limiter_duration_seconds_sum")
    limiter = RedisLimiter(Slow())
    await limiter.acquire([charge("w")])
    await limiter.acquire([lease("l")])
    assert count.grown == 2
    assert seconds.grown == pytest.approx(0.5)


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError()])
async def test_failure_is_raised_with_its_cause(error: Exception) -> None:
    limiter, scripts = noted()
    scripts.replies = {ACQUIRE: [error, error], READ: [error]}
    for attempt in (limiter.acquire([charge("w")]), limiter.acquire([lease("l")]), limiter.read([charge("w")])):
        with pytest.raises(LimiterUnavailable) as caught:
            await attempt
        assert (caught.value.retry_after, caught.value.__cause__) == (1, error)


async def test_units_that_may_be_reserved_get_another_holder() -> None:
    """Redis may have reserved them before its reply was lost. Under the old id they expire."""
    limiter, scripts = noted()
    scripts.replies[ACQUIRE] = [TimeoutError(), TimeoutError()]
    for each in (charge("w"), lease("l"), lease("l")):
        try:
            await limiter.acquire([each])
        except LimiterUnavailable:
            continue
    window, lost, after = scripts.holders()
    assert window == lost, "a window reserves nothing"
    assert after != lost


class NotedSeeder(Seeder):
    """Seeds by noting it, or raises `error`."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(NotedScripts(), history=None)  # type: ignore[arg-type]
        self.seeds: list[tuple[list[str], list[int], list[str | int], float]] = []
        self.error: Exception | None = None
        self.closed = False
        self._time = clock

    async def seed(
        self, charges: Sequence[Charge], unseeded: Sequence[int], head: Sequence[str | int], started: float
    ) -> None:
        self.seeds.append(([each.counter for each in charges], list(unseeded), list(head), started))
        self._time.advance(1)
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        self.closed = True


class Seeding:
    def __init__(self, clock: FakeClock) -> None:
        self.scripts, self.seeder = NotedScripts(), NotedSeeder(clock)
        self.limiter = RedisLimiter(self.scripts, seeder=self.seeder)


@pytest.fixture
def seeding(clock: FakeClock) -> Seeding:
    return Seeding(clock)


UNSEEDED = [-1, AT, 1, 7, 1000]


async def test_new_budget_is_seeded_before_it_decides(seeding: Seeding) -> None:
    seeding.scripts.replies[ACQUIRE] = [UNSEEDED] * 3
    assert (await seeding.limiter.acquire([cost("c"), charge("w")])).allowed
    head = [64, seeding.scripts.holders()[0], 20_000]
    assert seeding.seeder.seeds == [(["c", "w"], [1, 7, 1000], head, started) for started in (500.0, 501.0, 502.0)]
    assert limiter_calls(seeding) == 4


async def test_counter_that_is_lost_again_and_again_is_unknown(seeding: Seeding) -> None:
    seeding.scripts.replies[ACQUIRE] = [UNSEEDED] * 9
    with pytest.raises(CountersUnknown, match="3 times"):
        await seeding.limiter.acquire([cost("c")])
    assert (len(seeding.seeder.seeds), limiter_calls(seeding)) == (3, 4)


def limiter_calls(seeding: Seeding) -> int:
    return len(seeding.scripts.sent(ACQUIRE))


async def test_acquire_says_which_budgets_are_stale(seeding: Seeding) -> None:
    seeding.seeder.stale.add("stale")
    await seeding.limiter.acquire([cost("c"), cost("stale")])
    [(_, arguments)] = seeding.scripts.sent(ACQUIRE)
    assert [arguments[4], arguments[13]] == [1, 2]


async def test_read_sends_rules_and_charges_nothing() -> None:
    limiter, scripts = noted()
    states = await limiter.read([charge("w"), lease("l", limit=4)])
    assert scripts.sent(READ) == [(["w", "l"], [1, 10, 60_000_000, 2, 4])]
    assert [(state.rule.name, state.remaining, state.reset_seconds) for state in states] == [
        ("r", 5, 1.0),
        ("l", 5, 1.0),
    ]
    assert limiter._reservations.counters() == []


@pytest.mark.parametrize("error", [None, CountersUnknown("down")])
async def test_read_seeds_new_budgets_if_it_can(seeding: Seeding, error: Exception | None) -> None:
    seeding.seeder.error = error
    seeding.scripts.replies[READ] = [[0, AT, 9, 0, 100, 0, 2, 7, 1000], [0, AT, 8, 0, 60, 0]]
    states = await seeding.limiter.read([charge("w"), cost("c")])
    assert [state.remaining for state in states] == ([8, 60] if error is None else [9, 100])
    assert seeding.seeder.seeds == [(["w", "c"], [2, 7, 1000], [64, seeding.scripts.holders(READ)[0], 20_000], 500.0)]


async def test_read_of_seeded_budgets_seeds_none(seeding: Seeding) -> None:
    await seeding.limiter.read([charge("w"), cost("c")])
    assert (seeding.seeder.seeds, len(seeding.scripts.calls)) == ([], 1)


async def test_read_without_a_ledger_seeds_none() -> None:
    limiter, scripts = noted()
    scripts.replies[READ] = [[0, AT, 100, 0, 1, 7, 1000]]
    assert [state.remaining for state in await limiter.read([cost("c")])] == [100]
    assert len(scripts.calls) == 1


async def test_close_stops_the_seeder(seeding: Seeding) -> None:
    await seeding.limiter.aclose()
    assert seeding.seeder.closed


class Cancelled:
    """A request that is cancelled while its call is on its way."""

    def __init__(self) -> None:
        self.limiter, self.scripts = noted()
        self.call: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self.scripts.replies[ACQUIRE] = [self.call]

    async def cancel(self) -> None:
        request = asyncio.create_task(self.limiter.acquire([lease("l"), tokens("t", units=30)]))
        await callbacks()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert not self.call.done(), "the call goes on"

    async def has_new_holder(self) -> bool:
        await callbacks()
        assert self.limiter._cancelled == set()
        (await self.limiter.acquire([lease("other")])).admission.release()
        return len(set(self.scripts.holders())) == 2


@pytest.fixture
async def cancelled() -> Cancelled:
    cancelled = Cancelled()
    await cancelled.cancel()
    return cancelled


async def test_units_of_cancelled_request_are_returned(cancelled: Cancelled) -> None:
    cancelled.call.set_result([0, AT, 1, 500, 1, 500])
    assert not await cancelled.has_new_holder()
    assert cancelled.scripts.settled()[:-1] == [(["l", "t"], [2, 1, 0, 3, 30, 0, 60_000_000])]


@pytest.mark.parametrize("reply", [[1, AT, 0, 0, 1, 0], UNSEEDED])
async def test_cancelled_request_without_units_returns_none(cancelled: Cancelled, reply: list[int]) -> None:
    cancelled.call.set_result(reply)
    assert not await cancelled.has_new_holder()
    assert cancelled.scripts.settled()[:-1] == []


async def test_cancelled_request_without_reply_is_uncertain(cancelled: Cancelled) -> None:
    cancelled.call.set_exception(TimeoutError())
    assert await cancelled.has_new_holder()


async def test_cancelled_call_is_uncertain(cancelled: Cancelled) -> None:
    cancelled.call.cancel()
    assert await cancelled.has_new_holder()
