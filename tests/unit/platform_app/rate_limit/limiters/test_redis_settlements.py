"""What the limiter sends to Redis after a request, and how it renews the reservations of those that run."""

import asyncio

import pytest

from platform_app.rate_limit.limiter import Admission
from platform_app.rate_limit.limiters import redis
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.limiters.scripts import ACQUIRE, RENEW, SETTLE
from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.rule import Rule
from tests.support.fakes.core import Count
from tests.support.limits.limiter import charge, cost, lease, tokens
from tests.support.limits.noted_scripts import AT, NotedScripts, callbacks, noted
from tests.support.timing.virtual_time import virtual_time


def outcome(name: str) -> Count:
    return Count("platform_limiter_settlements_total", outcome=name)


@pytest.mark.parametrize(
    ("tokens_used", "cost_used", "assumed", "counted"),
    [
        (40, 9, None, (40, 9)),
        (0, 0, None, (0, 0)),
        (-5, -5, None, (0, 0)),
        (None, None, None, (100, 30)),
        (None, None, {"c": 7}, (100, 7)),
        (None, None, {"other": 7}, (100, 0)),
        (None, None, {}, (100, 0)),
        (None, 9, {"c": 7}, (100, 9)),
    ],
)
async def test_settlement_counts_what_was_used(
    tokens_used: int | None, cost_used: int | None, assumed: dict[str, int] | None, counted: tuple[int, int]
) -> None:
    """Unknown use counts as reserved. Without a price a rule counts its own price, or nothing. Concurrent requests use
    nothing."""
    limiter, scripts = noted()
    budget = cost("c", units=30)
    admission = (await limiter.acquire([charge("w"), lease("l"), tokens("t"), budget])).admission
    admission.settle(tokens_used, cost_used, assumed)
    admission.release()
    period = budget.rule.script_time()
    used_tokens, used_cost = counted
    assert scripts.settled() == [
        (["l", "t", "c"], [2, 1, 0, 3, 100, used_tokens, 60_000_000, 4, 30, used_cost, *period])
    ], "only the first call counts"
    assert limiter._reservations.counters() == []
    assert scripts.holders(SETTLE) == scripts.holders()


async def test_dropped_admission_is_settled_as_reserved() -> None:
    limiter, scripts = noted()
    await limiter.acquire([tokens("t", units=100)])
    assert scripts.settled() == [(["t"], [3, 100, 100, 60_000_000])]


async def test_settlement_for_others_says_what_it_reserved() -> None:
    """As another process sends it if this one dies: the use is unknown then."""
    limiter, scripts = noted()
    budget = cost("c", units=30)
    admission = (await limiter.acquire([lease("l"), tokens("t"), budget])).admission
    [settlement] = admission.settlement()
    assert settlement == {
        "holder": scripts.holders()[0],
        "at": AT,
        "counters": [("l", 2, 1, 0), ("t", 3, 100, 100, 60_000_000), ("c", 4, 30, 30, *budget.rule.script_time())],
    }
    admission.settle(1, 1)
    assert admission.settlement() == ()


async def test_concurrent_requests_leave_others_nothing_to_settle() -> None:
    """Their reservations expire by themselves."""
    limiter, _ = noted()
    assert (await limiter.acquire([lease("l"), lease("m")])).admission.settlement() == ()


async def test_result_of_settlement_is_counted() -> None:
    limiter, scripts = noted()
    scripts.replies[SETTLE] = [1, TimeoutError()]
    sent, failed = outcome("sent"), outcome("failed")
    for _ in range(2):
        (await limiter.acquire([lease("l")])).admission.release()
        await callbacks()
    assert (sent.grown, failed.grown) == (1, 1)
    assert limiter._settling == set()
    await limiter.acquire([lease("l")])
    assert len(set(scripts.holders()[:-1])) == 1
    assert scripts.holders()[-1] != scripts.holders()[0], "the units may still be reserved"


async def test_cancelled_settlement_counts_as_failed() -> None:
    limiter, scripts = noted()
    waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    scripts.replies[SETTLE] = [waiting]
    sent, failed = outcome("sent"), outcome("failed")
    (await limiter.acquire([lease("l")])).admission.release()
    waiting.cancel()
    await callbacks()
    assert (sent.grown, failed.grown) == (0, 1)
    await limiter.acquire([lease("l")])
    assert scripts.holders()[-1] != scripts.holders()[0], "the units may still be reserved"


async def test_settlements_without_a_reply_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "MAX_SETTLING", 2)
    limiter, scripts = noted()
    waiting: list[asyncio.Future[int]] = [asyncio.get_running_loop().create_future() for _ in range(2)]
    scripts.replies[SETTLE] = list(waiting)
    dropped = outcome("dropped")
    for _ in range(3):
        (await limiter.acquire([lease("l")])).admission.release()
    assert (dropped.grown, len(scripts.settled())) == (1, 2)
    waiting[0].set_result(1)
    await callbacks()
    (await limiter.acquire([lease("l")])).admission.release()
    assert (dropped.grown, len(scripts.settled())) == (1, 3)
    waiting[1].set_result(1)


def test_settlement_after_the_event_loop_ended_is_left_out() -> None:
    async def admit() -> tuple[Admission, NotedScripts]:
        limiter, scripts = noted()
        return (await limiter.acquire([lease("l")])).admission, scripts

    admission, scripts = asyncio.run(admit())
    admission.release()
    assert scripts.settled() == []


async def test_undo_takes_back_what_was_charged() -> None:
    limiter, scripts = noted()
    shadow = Charge(Rule("s", "key", "requests", 9, window_seconds=60, shadow=True), "s")
    charges = [charge("w", units=3), shadow, lease("l")]
    scripts.replies[ACQUIRE] = [[0, AT, 1, 0, -1, 0, 1, 0]]
    limiter.undo(charges, await limiter.acquire(charges))
    assert scripts.settled() == [(["l"], [2, 1, 0]), (["w"], [1, 0, -3, 60_000_000])]


async def test_undo_without_windows_only_releases() -> None:
    limiter, scripts = noted()
    limiter.undo([lease("l")], await limiter.acquire([lease("l")]))
    assert scripts.settled() == [(["l"], [2, 1, 0])]


@pytest.mark.parametrize(
    ("options", "calls"),
    [({}, [["{a}1", "{b}1", "{a}2"]]), ({"by_hash_tag": True}, [["{a}1", "{a}2"], ["{b}1"]])],
)
async def test_cluster_gets_one_call_for_each_slot(options: dict[str, bool], calls: list[list[str]]) -> None:
    limiter, scripts = noted(**options)
    admission = (await limiter.acquire([lease("{a}1"), lease("{b}1"), lease("{a}2")])).admission
    assert await limiter.renew_now()
    admission.release()
    assert [keys for keys, _ in scripts.sent(RENEW)] == calls
    assert [keys for keys, _ in scripts.settled()] == calls


class Renewing:
    """A limiter with three counters, of which two are renewed at once."""

    def __init__(self) -> None:
        self.limiter, self.scripts = noted()
        self.running: list[Admission] = []

    async def reserve(self, *counters: str) -> None:
        charges = [tokens(counter, units=10 + number) for number, counter in enumerate(counters)]
        self.running.append((await self.limiter.acquire(charges)).admission)

    @property
    def renewals(self) -> list[tuple[list[str], list[object]]]:
        return self.scripts.sent(RENEW)


@pytest.fixture
async def renewing(monkeypatch: pytest.MonkeyPatch) -> Renewing:
    monkeypatch.setattr(redis, "RENEWED_AT_ONCE", 2)
    renewing = Renewing()
    await renewing.reserve("a", "b", "c")
    return renewing


async def test_renewal_sends_all_reservations_in_parts(renewing: Renewing) -> None:
    assert await renewing.limiter.renew_now()
    assert renewing.renewals == [(["a", "b"], [0, 10, 11]), (["c"], [0, 12])]
    assert set(renewing.scripts.holders(RENEW)) == set(renewing.scripts.holders())


async def test_renewal_moves_reservations_to_the_new_holder(renewing: Renewing) -> None:
    [old] = renewing.scripts.holders()
    renewing.limiter._reservations.mark_uncertain()
    renewing.scripts.replies[RENEW] = [0, TimeoutError()]
    failed = outcome("renewal_failed")
    assert not await renewing.limiter.renew_now()
    assert failed.grown == 1
    assert await renewing.limiter.renew_now(), "the old holder is named until all reservations were moved"
    assert await renewing.limiter.renew_now()
    assert [arguments for _, arguments in renewing.renewals] == [
        [1, old, 10, 11], [1, old, 12], [1, old, 10, 11], [1, old, 12], [0, 10, 11], [0, 12],
    ]  # fmt: skip
    assert old not in renewing.scripts.holders(RENEW)


async def test_holder_lost_during_a_renewal_is_named_by_the_next(renewing: Renewing) -> None:
    moved: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    limiter, old = renewing.limiter, renewing.scripts.holders()[0]
    limiter._reservations.mark_uncertain()
    renewing.scripts.replies[RENEW] = [moved]
    renewal = asyncio.create_task(limiter.renew_now())
    await callbacks()
    limiter._reservations.mark_uncertain()
    await renewing.reserve("a")
    lost = renewing.scripts.holders(RENEW)[0]
    assert lost != old
    moved.set_result(0)
    assert await renewal
    assert list(limiter._reservations.previous_holders) == [lost]


async def test_renewal_works_if_a_holder_is_forgotten_meanwhile(renewing: Renewing) -> None:
    """Only so many previous holders are remembered."""
    moved: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    renewing.limiter._reservations.mark_uncertain()
    renewing.scripts.replies[RENEW] = [moved]
    renewal = asyncio.create_task(renewing.limiter.renew_now())
    await callbacks()
    renewing.limiter._reservations.previous_holders.clear()
    moved.set_result(0)
    assert await renewal


@virtual_time
async def test_reservations_are_renewed_every_five_seconds() -> None:
    """They live for 20 s, so three renewals may fail."""
    scripts = NotedScripts()
    limiter = RedisLimiter(scripts)
    running = await limiter.acquire([lease("l")])
    renewing = asyncio.create_task(limiter.renew_reservations())
    renewals = []
    for wait in (4.9, 0.2, 4.8, 0.2):
        await asyncio.sleep(wait)
        renewals.append(len(scripts.sent(RENEW)))
    renewing.cancel()
    running.admission.release()
    assert renewals == [0, 1, 1, 2]
