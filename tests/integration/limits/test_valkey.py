"""The limiter's script on a real server: against a model, under load, and when the server is frozen or forgetful."""

import asyncio
import contextlib
import itertools
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.errors import LimiterUnavailable
from platform_app.rate_limit.limiters.redis import BUCKETS, RedisLimiter
from platform_app.rate_limit.limiters.scripts import ACQUIRE, ALL
from platform_app.rate_limit.matching import Charge
from platform_app.redis.client import PipelinedRedis
from tests.support.limits.limiter import (
    CLOCK_CALL,
    NOW_MS,
    SECOND,
    TimedScripts,
    charge,
    cost,
    lease,
    on_test_clock,
    tokens,
)
from tests.support.servers.valkey import connect, counting_socket
from tests.support.timing.responsive_time import responsive_time


class TimedLimiter(RedisLimiter):
    """The same scripts with the test's clock (in microseconds) in place of the server's."""

    def __init__(self, client: PipelinedRedis) -> None:
        self._timed = TimedScripts(client)
        super().__init__(self._timed)

    @property
    def now(self) -> int:
        return self._timed.now

    @now.setter
    def now(self, now: int) -> None:
        self._timed.now = now


def test_patched_script_leaves_no_call_on_real_time() -> None:
    for script in ALL:
        assert script.text.count(CLOCK_CALL) == 1
        assert script.text.count(NOW_MS) == 1
        patched = on_test_clock(script.text)
        assert re.findall(r"'(TIME|P?EXPIRE(?:AT)?|P?TTL)'", patched) == []
        for name, own in (("PEXPIRE", "ZADD"), ("PTTL", "ZSCORE")):
            assert patched.count(f"call('{own}', lifetimes, ") == script.text.count(f"call('{name}', ")


def width_of(each: Charge) -> int:
    """A bucket's width in microseconds."""
    return math.ceil((each.rule.window_seconds or 0) * SECOND / BUCKETS)


@dataclass
class Model:
    """Remembers every unit. A unit counts from its bucket on for 64 whole buckets."""

    taken: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def used(self, each: Charge, now: int) -> int:
        width = width_of(each)
        return sum(cost for at, cost in self.taken.get(each.counter, []) if now // width - at // width <= BUCKETS)

    def within_window(self, each: Charge, now: int) -> int:
        start = now - (each.rule.window_seconds or 0) * SECOND
        return sum(cost for at, cost in self.taken.get(each.counter, []) if at > start)

    def acquire(self, charges: list[Charge], now: int) -> tuple[int | None, list[int]]:
        """The index of the rule that denies, if one does, and what remains of each."""
        denier = next(
            (i for i, each in enumerate(charges) if self.used(each, now) + each.units > each.rule.limit), None
        )
        if denier is None:
            for each in charges:
                self.taken.setdefault(each.counter, []).append((now, each.units))
        return denier, [max(0, each.rule.limit - self.used(each, now)) for each in charges]

    def wait(self, each: Charge, now: int) -> int | None:
        """The least number of microseconds after which `each` fits; None: it never does."""
        width = width_of(each)
        ends = [(at // width + BUCKETS + 1) * width for at, _ in self.taken.get(each.counter, [])]
        return next((e - now for e in sorted(ends) if self.used(each, e) + each.units <= each.rule.limit), None)


@dataclass(frozen=True)
class Step:
    wait: int
    picks: dict[int, int]
    """Cost by rule."""


RULES = st.lists(st.tuples(st.integers(1, 12), st.sampled_from([60, 100, 3600])), min_size=1, max_size=4)
WAITS = st.one_of(
    st.just(0),
    st.integers(0, 2 * SECOND),
    st.integers(0, 140).map(lambda buckets: buckets * 60 * SECOND // BUCKETS),
    st.integers(0, 120 * SECOND),
    st.integers(0, 5000 * SECOND),
)
STEPS = st.lists(
    st.builds(Step, WAITS, st.dictionaries(st.integers(0, 3), st.integers(1, 4), min_size=1, max_size=4)),
    min_size=5,
    max_size=60,
)


@settings(
    max_examples=150, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(rules=RULES, steps=STEPS, phase=st.integers(0, SECOND))
async def test_it_decides_as_a_model_that_remembers_every_unit(
    scripts: PipelinedRedis, redis: "Redis", rules: list[tuple[int, int]], steps: list[Step], phase: int
) -> None:
    """Several rules and costs, any pauses; the server expires idle counters on the test's clock."""
    limiter, model = TimedLimiter(scripts), Model()
    limiter.now += phase
    counters = [charge(limit=limit, window=window) for limit, window in rules]
    for step in steps:
        limiter.now += step.wait
        picks = {index % len(rules): cost for index, cost in step.picks.items()}
        charges = [Charge(counters[i].rule, counters[i].counter, cost) for i, cost in picks.items()]

        before = [model.within_window(each, limiter.now) for each in charges]
        waits = [model.wait(each, limiter.now) for each in charges]
        decision = await limiter.acquire(charges)
        denier, remaining = model.acquire(charges, limiter.now)

        assert [state.remaining for state in decision.states] == remaining
        if denier is None:
            assert decision.allowed
            for each, used in zip(charges, before, strict=True):
                assert used + each.units <= each.rule.limit, "more than the limit in a window"
        else:
            assert decision.denied_by is decision.states[denier]
            wait = waits[denier]
            if wait is not None:
                assert round(decision.denied_by.reset_seconds * SECOND) == wait
    await redis.delete(*(each.counter for each in counters))


async def test_denied_by_one_rule_charges_none(scripts: PipelinedRedis) -> None:
    limiter = RedisLimiter(scripts)
    wide, narrow, other = charge(limit=9), charge(limit=2), charge(limit=9)
    outcomes = [await limiter.acquire([wide, narrow, other]) for _ in range(20)]
    assert [outcome.allowed for outcome in outcomes] == [True] * 2 + [False] * 18
    assert outcomes[-1].denied_by is outcomes[-1].states[1]
    assert [state.remaining for state in outcomes[-1].states] == [7, 0, 7]
    assert (await limiter.acquire([wide])).states[0].remaining == 6


async def test_a_cost_beyond_the_limit_is_denied_and_takes_nothing(scripts: PipelinedRedis) -> None:
    limiter = RedisLimiter(scripts)
    each = charge(limit=5)
    too_much = Charge(each.rule, each.counter, 6)
    decision = await limiter.acquire([too_much])
    assert decision.denied_by is not None
    # It never fits: what is told is the longest time for which any unit counts.
    assert round(decision.denied_by.reset_seconds * SECOND) == width_of(each) * (BUCKETS + 1)
    assert (await limiter.acquire([each])).states[0].remaining == 4


async def test_no_rule_allows(scripts: PipelinedRedis) -> None:
    assert (await RedisLimiter(scripts).acquire([])).allowed


async def test_a_counter_that_only_denied_for_a_window_goes_on(scripts: PipelinedRedis) -> None:
    """Its units ended at a denied request, so at the next one there is nothing left to drop."""
    limiter, each = TimedLimiter(scripts), charge(limit=3)
    too_much = Charge(each.rule, each.counter, 4)
    assert (await limiter.acquire([each])).allowed
    for _ in range(3):
        limiter.now += 120 * SECOND
        assert not (await limiter.acquire([too_much])).allowed
    assert (await limiter.acquire([each])).states[0].remaining == 2


async def test_a_client_that_stays_a_sixty_fourth_below_its_limit_is_never_denied(scripts: PipelinedRedis) -> None:
    limiter, each = TimedLimiter(scripts), charge(limit=200, window=60)
    spacing = math.ceil(60 * SECOND / 200 * (BUCKETS + 1) / BUCKETS)
    for _ in range(900):  # four and a half windows
        limiter.now += spacing
        assert (await limiter.acquire([each])).allowed


async def test_under_steady_pressure_a_sixty_fourth_is_lost_at_most(scripts: PipelinedRedis) -> None:
    limiter, each = TimedLimiter(scripts), charge(limit=100, window=60)
    allowed: list[int] = []
    for _ in range(5 * 300):  # five windows at three times the limit
        limiter.now += 60 * SECOND // 300
        if (await limiter.acquire([each])).allowed:
            allowed.append(limiter.now)
    for first, last in itertools.pairwise(allowed[index] for index in range(0, len(allowed), 100)):
        assert last - first >= 60 * SECOND, "more than the limit in a window"
        assert last - first <= 60 * SECOND * (1 + 1 / BUCKETS) + 60 * SECOND // 300
    assert len(allowed) >= 5 * 100 * BUCKETS / (BUCKETS + 1) - 1


async def test_on_the_servers_own_clock(scripts: PipelinedRedis, redis: "Redis") -> None:
    """The real script, hammered for two windows, decides as the model does at the server's own times."""
    limiter, model, each = RedisLimiter(scripts), Model(), charge(limit=20, window=1)
    allowed, denials = 0, 0
    while allowed <= 2 * each.rule.limit:
        earliest, decision, latest = await redis.time(), await limiter.acquire([each]), await redis.time()
        now = decision.at_microseconds
        assert microseconds(earliest) <= now <= microseconds(latest)
        wait = model.wait(each, now)
        assert decision.allowed == (model.acquire([each], now)[0] is None)
        if decision.allowed:
            allowed += 1
        else:
            denials += 1
            assert decision.denied_by is not None
            assert round(decision.denied_by.reset_seconds * SECOND) == wait
            await asyncio.sleep(0.003)
    assert denials > 0


def microseconds(time: tuple[int, int]) -> int:
    return time[0] * SECOND + time[1]


async def test_the_reset_of_a_denial_is_when_it_fits(scripts: PipelinedRedis) -> None:
    limiter, each = TimedLimiter(scripts), charge(limit=3, window=1)
    assert [(await limiter.acquire([each])).allowed for _ in range(4)] == [True, True, True, False]
    denied = (await limiter.acquire([each])).denied_by
    assert denied is not None
    limiter.now += round(denied.reset_seconds * SECOND) - 1
    assert not (await limiter.acquire([each])).allowed
    limiter.now += 1
    assert (await limiter.acquire([each])).allowed


@pytest.mark.parametrize("back", [1, 30, 3600])
async def test_a_clock_set_back_never_lets_more_through(scripts: PipelinedRedis, back: int) -> None:
    limiter, each = TimedLimiter(scripts), charge(limit=10, window=60)
    true_times: list[int] = []
    true_now = 0

    async def ask(count: int) -> int:
        allowed = [(await limiter.acquire([each])).allowed for _ in range(count)].count(True)
        true_times.extend([true_now] * allowed)
        return allowed

    def advance(seconds: float) -> None:
        nonlocal true_now
        limiter.now += round(seconds * SECOND)
        true_now += round(seconds * SECOND)

    await ask(4)
    advance(20)
    await ask(3)
    limiter.now -= back * SECOND
    assert await ask(10) == 3, "what was used before still counts"
    for _ in range(200):
        advance(1)
        await ask(2)
    for early, late in zip(true_times, true_times[10:], strict=False):
        assert late - early >= 60 * SECOND, "more than the limit in a window of true time"
    denied = (await limiter.acquire([each])).denied_by
    if denied is not None:  # how long it takes is told as it is, and true
        limiter.now += round(denied.reset_seconds * SECOND)
    assert (await limiter.acquire([each])).allowed
    # At the latest when the clock has made up for it, all is as ever.
    limiter.now += (back + 62) * SECOND
    assert await ask(12) == 10


async def test_an_idle_counter_goes_away(scripts: PipelinedRedis, redis: "Redis") -> None:
    """On the server's own clock; test_limiter_lifetimes.py has the exact lifetimes."""
    each, an_hour = charge(limit=3, window=3600), 3_600_000
    await RedisLimiter(scripts).acquire([each])
    assert an_hour < await redis.pttl(each.counter) <= an_hour * (BUCKETS + 2) / BUCKETS + 1
    denied = charge(limit=1, window=60)
    await RedisLimiter(scripts).acquire([Charge(denied.rule, denied.counter, 5)])
    assert await redis.exists(denied.counter) == 0, "a denial leaves nothing behind"


async def test_memory_does_not_depend_on_the_limit(
    scripts: PipelinedRedis, redis: "Redis", show_figure: Callable[[str], None]
) -> None:
    usage: dict[int, int] = {}
    for limit in (60, 1_000_000):
        limiter, each = TimedLimiter(scripts), charge(limit=limit, window=3600)
        width = math.ceil(3600 * SECOND / BUCKETS)
        for _ in range(4 * BUCKETS):  # four windows, as many buckets and as full as the limit allows
            limiter.now += width
            await limiter.acquire([Charge(each.rule, each.counter, max(1, limit // (BUCKETS + 1)))])
        fields = await redis.hgetall(each.counter)
        assert 60 <= len(fields) <= BUCKETS + 4
        usage[limit] = await redis.memory_usage(each.counter) or 0
    show_figure(f"bytes per counter after heavy use, by limit: {usage}")
    assert 0 < min(usage.values()) <= max(usage.values()) < 2048
    # As many fields; only the numbers in them have more digits.
    assert usage[1_000_000] <= usage[60] * 1.5


async def calls(redis: "Redis") -> dict[str, int]:
    stats = await redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): found["calls"] for name, found in stats.items()}


@asynccontextmanager
async def connected(url: str, timeout_ms: int = 5000) -> AsyncIterator[PipelinedRedis]:
    """A client of its own."""
    client = PipelinedRedis(url, timeout_ms / 1000)
    yield client
    await client.aclose()


async def test_a_flushed_script_cache_costs_nothing(redis: "Redis", valkey: EmbeddedValkey) -> None:
    async with connected(valkey.url) as client:
        limiter, each = RedisLimiter(client), charge(limit=3)
        assert (await limiter.acquire([each])).states[0].remaining == 2
        await redis.script_flush()
        assert (await limiter.acquire([each])).states[0].remaining == 1
        assert await redis.script_exists(ACQUIRE.sha) == [True]
        assert (await limiter.acquire([each])).states[0].remaining == 0


async def test_one_round_trip_for_all_rules(own_valkey: EmbeddedValkey) -> None:
    redis = connect(own_valkey.url)
    charges = [charge(limit=1000), charge(limit=50), charge(limit=1000)]
    async with connected(own_valkey.url) as client:
        limiter = RedisLimiter(client)
        await limiter.acquire(charges)  # connects, loads the script
        before = await calls(redis)
        for _ in range(100):  # half of them denied
            await limiter.acquire(charges)
        after = await calls(redis)
    await redis.aclose()
    grown = {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}
    assert grown.pop("evalsha") == 100
    assert grown.pop("info") == 1
    # Commands inside of the script are counted too; nothing else came from us.
    assert set(grown) <= {"time", "hmget", "hset", "hincrby", "hdel", "hgetall", "pexpire"}


@pytest.mark.parametrize("rules", [1, 4, 32])
async def test_one_round_trip_at_the_socket_whatever_the_number_of_rules(
    valkey: EmbeddedValkey, tmp_path: Path, rules: int
) -> None:
    """Of every kind; where something was reserved, one more message that nobody waits for tells how it ended."""
    makers: Iterator[Callable[..., Charge]] = itertools.cycle([charge, tokens, cost, lease])
    charges = [make(limit=1_000_000) for make in itertools.islice(makers, rules)]
    async with counting_socket(valkey, tmp_path) as traffic:
        pipe = PipelinedRedis(f"unix://{traffic.socket}", 5)
        await pipe.load_scripts(ALL, 5)
        limiter = RedisLimiter(pipe)
        for _ in range(20):
            before = (traffic.asked, traffic.answered)
            decision = await limiter.acquire(charges)
            assert (traffic.asked, traffic.answered) == (before[0] + 1, before[1] + 1)
            decision.admission.release()
            await limiter.aclose()
            settled = 0 if rules == 1 else 1
            assert (traffic.asked, traffic.answered) == (before[0] + 1 + settled, before[1] + 1 + settled)
        await pipe.aclose()


async def test_of_two_hundred_racers_exactly_fifty_get_in(valkey: EmbeddedValkey) -> None:
    shared = charge(limit=50)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(valkey.url)) for _ in range(4)]
        decisions = await asyncio.gather(
            *(RedisLimiter(clients[number % 4]).acquire([shared, charge(limit=5)]) for number in range(200))
        )
    assert sum(decision.allowed for decision in decisions) == 50
    remaining = sorted(decision.states[0].remaining for decision in decisions if decision.allowed)
    assert remaining == list(range(50)), "two racers were told the same"


TIMEOUT_SECONDS = 0.5
"""Of clients of a server that fails. The gateway has 0.05, in which a busy machine's server does not always respond."""


@pytest.mark.parametrize("seconds", [0.0, 1.2])
async def test_a_frozen_server_is_given_up_on_at_once(own_valkey: EmbeddedValkey, seconds: float) -> None:
    async with connected(own_valkey.url, int(1000 * TIMEOUT_SECONDS)) as client:
        limiter = RedisLimiter(client)
        small, large = charge(limit=5), charge(limit=5000)
        await eventually(limiter, small)
        own_valkey.pause()
        try:
            for concurrent in (1, 100, 1):
                async with responsive_time() as spent:
                    outcomes = await asyncio.gather(
                        *(limiter.acquire([small]) for _ in range(concurrent)), return_exceptions=True
                    )
                assert {type(outcome) for outcome in outcomes} == {LimiterUnavailable}
                assert spent.seconds < 3 * TIMEOUT_SECONDS  # to wait for a connection, to connect, and to hear back
                await asyncio.sleep(seconds)  # long enough for the connection to be given up
        finally:
            own_valkey.resume()
        # Late answers of the frozen time are not taken for those of new questions.
        left = [await eventually(limiter, large) for _ in range(20)]
        assert left == sorted(set(left), reverse=True)
        assert left[-1] > small.rule.limit


async def eventually(limiter: RedisLimiter, each: Charge) -> int:
    """What remains of a charge, asked for until the server responds."""
    async with asyncio.timeout(300):
        while True:
            with contextlib.suppress(LimiterUnavailable):
                return (await limiter.acquire([each])).states[0].remaining


async def test_a_server_that_is_gone_is_unavailable_and_used_again(own_valkey: EmbeddedValkey) -> None:
    async with connected(own_valkey.url, int(1000 * TIMEOUT_SECONDS)) as client:
        limiter, each = RedisLimiter(client), charge(limit=5)
        while await eventually(limiter, each):
            pass
        own_valkey.kill()
        for _ in range(3):
            async with responsive_time() as spent:
                with pytest.raises(LimiterUnavailable) as caught:
                    await limiter.acquire([each])
            assert spent.seconds < TIMEOUT_SECONDS, "it is refused, not waited for"
            assert caught.value.retry_after == 1
            assert "valkey.sock" not in caught.value.message
        own_valkey.start()
        assert await eventually(limiter, each) > 0, "a new server: empty counters, empty script cache"


async def test_a_key_of_another_type_is_unavailable_and_no_crash(redis: "Redis", valkey: EmbeddedValkey) -> None:
    each = charge()
    await redis.set(each.counter, "not a hash")
    async with connected(valkey.url) as client:
        with pytest.raises(LimiterUnavailable):
            await RedisLimiter(client).acquire([each])
        assert (await RedisLimiter(client).acquire([charge()])).allowed
    await redis.delete(each.counter)
