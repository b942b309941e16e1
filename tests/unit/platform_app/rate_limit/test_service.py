"""The service: what a decision notes for the response, and the errors of refusals."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from platform_app.config import LimitRule
from platform_app.errors import BudgetExceeded, LimiterUnavailable, RateLimited
from platform_app.observability.context import RequestContext
from platform_app.observability.record import LIMITS, OK
from platform_app.rate_limit import service
from platform_app.rate_limit.limiter import NOTHING_RESERVED, Decision, RuleState, Settlement
from platform_app.rate_limit.matching import Charge, LimitedRequest, RuleBook
from platform_app.rate_limit.rule import rule_of
from platform_app.rate_limit.service import RateLimitService
from tests.support.fakes.core import Count, FakeClock, FakeLimiter, context

RULE = LimitRule(name="key-rpm", scope="key", limit=60, window_seconds=60)
USAGE = LimitedRequest("k" * 12, "team-a", "/v1/platform/chat")


def remaining_of(request: RequestContext) -> int:
    """What the noted decision leaves of its only rule; the denying rule's where it denied."""
    assert request.limits is not None
    state: RuleState = request.limits.denied_by or request.limits.states[0]
    return state.remaining


def outcomes(request: RequestContext) -> list[str]:
    """What the request's record says about its time in the limiter."""
    assert {name for name, _, _, _ in request.record.hops} == {LIMITS}
    assert all(0 < began <= ended for _, began, ended, _ in request.record.hops)
    return [outcome for _, _, _, outcome in request.record.hops]


async def test_allowed_request_notes_its_decision() -> None:
    limiter, request = FakeLimiter(), context()
    await RateLimitService(RuleBook([RULE]), limiter).charge(USAGE, request)
    assert remaining_of(request) == 59
    assert outcomes(request) == [OK]
    [[charge]] = limiter.asked
    assert (charge.rule, charge.counter, charge.units) == (
        rule_of(RULE),
        "fbp:rl:{kkkkkkkkkkkk}:key-rpm:requests:60",
        1,
    )


async def test_refusal_names_rule_limit_window_and_wait() -> None:
    limiter, request = FakeLimiter(), context()
    limiter.deny_seconds = 11.2
    with pytest.raises(RateLimited) as caught:
        await RateLimitService(RuleBook([RULE]), limiter).charge(USAGE, request)
    error = caught.value
    assert error.message == "The rate limit 'key-rpm' is reached. Try again in 12 s."
    assert error.details == ["key-rpm: 60 requests in any 60 s, counted by key"]
    assert error.retry_after == 12
    assert remaining_of(request) == 0
    assert outcomes(request) == ["denied"]


async def test_unavailable_limiter_raises() -> None:
    limiter, request = FakeLimiter(), context()
    limiter.down = True
    with pytest.raises(LimiterUnavailable):
        await RateLimitService(RuleBook([RULE]), limiter).charge(USAGE, request)
    assert request.limits is None
    assert outcomes(request) == ["limiter_unavailable"]


async def test_all_rules_take_one_limiter_call() -> None:
    limiter = FakeLimiter()
    rules = [RULE, LimitRule(name="all-rpm", scope="global", limit=600, window_seconds=60)]
    await RateLimitService(RuleBook(rules), limiter).charge(USAGE, context())
    assert [[charge.rule.name for charge in asked] for asked in limiter.asked] == [["key-rpm", "all-rpm"]]


class Noted:
    """An admission that notes how it ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[int | None, int | None]] = []

    def settle(
        self, tokens: int | None, cost_microusd: int | None, assumed_costs: Mapping[str, int] | None = None
    ) -> None:
        self.ends.append((tokens, cost_microusd))

    def release(self) -> None:
        self.settle(0, 0)

    def settlement(self) -> Settlement:
        return ()


TPM = LimitRule(name="key-tpm", scope="key", unit="tokens", limit=1000, window_seconds=60)
DAILY = LimitRule(name="daily", scope="owner", unit="cost_usd", limit="2.50", window="day", time_zone="Europe/Berlin")
CHAT = LimitedRequest("k" * 12, "team-a", "/v1/platform/chat", "gpt-4o", tokens=300, cost_microusd=40_000)


async def test_admitted_request_is_charged_its_estimate() -> None:
    limiter = FakeLimiter()
    limiter.admission = noted = Noted()
    admission = await RateLimitService(RuleBook([RULE, TPM, DAILY]), limiter).admit(CHAT, context())
    admission.settle(120, 9)
    assert noted.ends == [(120, 9)]
    assert [[charge.units for charge in asked] for asked in limiter.asked] == [[1, 300, 40_000]]


async def test_charge_reserves_nothing() -> None:
    limiter = FakeLimiter()
    limiter.admission = noted = Noted()
    await RateLimitService(RuleBook([RULE]), limiter).charge(USAGE, context())
    assert noted.ends == [(0, 0)]


async def test_no_rules_make_no_limiter_call() -> None:
    limiter = FakeLimiter()
    assert await RateLimitService(RuleBook([TPM]), limiter).admit(USAGE, context()) is NOTHING_RESERVED
    assert limiter.asked == []


async def test_budget_error_has_dollars_and_time_zone() -> None:
    limiter = FakeLimiter()
    limiter.deny_seconds = 5000.5
    denied = Count("platform_limiter_denials_total", rule="daily", mode="enforce")
    with pytest.raises(BudgetExceeded) as caught:
        await RateLimitService(RuleBook([DAILY]), limiter).admit(CHAT, context())
    assert caught.value.code == "budget_exceeded"
    assert caught.value.message == "The budget 'daily' is reached. Try again in 5001 s."
    assert caught.value.details == ["daily: 2.5 US dollars in a calendar day (Europe/Berlin), counted by owner"]
    assert denied.grown == 1


async def test_request_above_limit_is_not_to_be_retried() -> None:
    limiter = FakeLimiter()
    limiter.deny_seconds = 60.0
    with pytest.raises(RateLimited) as caught:
        await RateLimitService(RuleBook([TPM]), limiter).admit(replace(CHAT, tokens=1001), context())
    assert "may use 1001 tokens, and the limit 'key-tpm' allows 1000 tokens" in caught.value.message
    assert (caught.value.should_retry, caught.value.wait_seconds) == (False, None)


async def test_request_of_exactly_the_limit_may_be_retried() -> None:
    limiter = FakeLimiter()
    limiter.deny_seconds = 60.0
    with pytest.raises(RateLimited) as caught:
        await RateLimitService(RuleBook([TPM]), limiter).admit(replace(CHAT, tokens=1000), context())
    assert caught.value.message == "The rate limit 'key-tpm' is reached. Try again in 60 s."
    assert caught.value.should_retry


async def test_remembered_denial_refuses_without_the_limiter() -> None:
    """The next request of the key is refused before its body is read; a key without a denial is not."""
    limiter = FakeLimiter()
    limiter.deny_seconds = 60.0
    gate = RateLimitService(RuleBook([RULE]), limiter)
    gate.refuse_known(USAGE, context())
    with pytest.raises(RateLimited) as first:
        await gate.charge(USAGE, context())
    remembered = Count("platform_limiter_total", decision="denied", mode="remembered")
    request = context()
    with pytest.raises(RateLimited) as again:
        gate.refuse_known(USAGE, request)
    gate.refuse_known(replace(USAGE, key_id="x" * 12), context())
    assert len(limiter.asked) == 1
    assert again.value.details == first.value.details
    assert remaining_of(request) == 0
    assert remembered.grown == 1


@pytest.mark.parametrize(("seconds", "should_retry"), [(60.0, True), (61.0, False), (383_975.0, False)])
async def test_long_wait_is_not_to_be_retried(seconds: float, should_retry: bool) -> None:
    """Kind 11: they would come again after seconds, for nothing. The time to wait is in the error all the same."""
    limiter = FakeLimiter()
    limiter.deny_seconds = seconds
    with pytest.raises(RateLimited) as caught:
        await RateLimitService(RuleBook([TPM]), limiter).admit(replace(CHAT, tokens=1), context())
    assert (caught.value.should_retry, caught.value.wait_seconds) == (should_retry, seconds)


class Shadowing(FakeLimiter):
    """Says that the first rule would have denied."""

    async def acquire(self, charges: Sequence[Charge]) -> Decision:
        decision = await super().acquire(charges)
        return Decision((RuleState(charges[0].rule, 0, 5.0, shadow_denied=True), *decision.states[1:]))


async def test_shadow_denial_is_counted_and_logged_once_a_second() -> None:
    gate = RateLimitService(RuleBook([LimitRule(**{**dict(RULE), "mode": "shadow"})]), Shadowing())
    counted = Count("platform_limiter_denials_total", rule="key-rpm", mode="shadow")
    request = context()
    with capture_logs() as lines:
        for _ in range(20):
            await gate.admit(USAGE, request)
    assert counted.grown == 20
    assert [(line["event"], line["rule"], line["key_id"]) for line in lines] == [
        ("limit_shadow_denied", "key-rpm", "k" * 12)
    ]
    assert request.limits is not None
    assert request.limits.denied_by is None


async def test_closed_refusal_is_counted_by_rule() -> None:
    limiter = FakeLimiter()
    limiter.down = True
    closed = LimitRule(**{**dict(RULE), "on_outage": "closed"})
    shadow = LimitRule(**{**dict(closed), "name": "shadow", "mode": "shadow"})
    counts = [Count("platform_limiter_closed_total", rule=name) for name in ("key-rpm", "shadow", "key-tpm")]
    gate = RateLimitService(RuleBook([closed, shadow, TPM]), limiter)
    with pytest.raises(LimiterUnavailable):
        await gate.admit(CHAT, context())
    assert [count.grown for count in counts] == [1, 0, 0]


async def test_explain_covers_every_rule_and_charges_nothing() -> None:
    limiter = FakeLimiter()
    own_only = LimitRule(name="own", scope="key", unit="requests", window_seconds=1)
    gate = RateLimitService(RuleBook([TPM, RULE, own_only]), limiter)
    explained = await gate.explain(replace(USAGE, limits={"key-rpm": 5}))
    assert limiter.asked == []
    assert [(each.rule.name, each.rule.limit, each.own) for each, _ in explained] == [
        ("key-tpm", 1000, False), ("key-rpm", 5, True), ("own", 0, False),
    ]  # fmt: skip
    assert [state and (state.rule.name, state.remaining) for _, state in explained] == [None, ("key-rpm", 5), None]
    assert [each.why_not for each, _ in explained] == [
        "only for requests that call a model", None, "only for keys with their own limit for this rule",
    ]  # fmt: skip


async def test_replaced_rules_keep_their_counters() -> None:
    book, limiter = RuleBook([RULE]), FakeLimiter()
    gate = RateLimitService(book, limiter)
    await gate.charge(USAGE, context())
    book.replace([LimitRule(**{**dict(RULE), "limit": 99}), LimitRule(**{**dict(RULE), "name": "new"})])
    await gate.charge(USAGE, context())
    [[before], [after, new]] = limiter.asked
    assert (before.rule.limit, after.rule.limit) == (60, 99)
    assert before.counter == after.counter != new.counter
    book.replace([LimitRule(**{**dict(RULE), "on_outage": "closed", "window_seconds": 30})])
    assert book.needs_redis
    await gate.charge(USAGE, context())
    assert limiter.asked[-1][0].counter != before.counter, "another window counts apart"


async def test_charge_request_charges_only_request_rules() -> None:
    limiter, request = FakeLimiter(), context()
    slots = LimitRule(name="key-slots", scope="key", unit="concurrent", limit=4)
    gate = RateLimitService(RuleBook([TPM, RULE, DAILY, slots]), limiter)
    await gate.charge_request(LimitedRequest("k" * 12, "team-a", "/v1/platform/chat", "big"), request)
    assert [[charge.rule.name for charge in asked] for asked in limiter.asked] == [["key-rpm"]]
    assert remaining_of(request) == 59
    limiter.deny_seconds = 3
    with pytest.raises(RateLimited):
        await gate.charge_request(USAGE, context())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The service's clock, at 0: a machine that has just started."""
    clock = FakeClock(0.0)
    monkeypatch.setattr(service, "time", SimpleNamespace(monotonic=clock, perf_counter=clock))
    return clock


async def test_shadow_denials_are_logged_again_after_a_second(clock: FakeClock) -> None:
    gate = RateLimitService(RuleBook([LimitRule(**{**dict(RULE), "mode": "shadow"})]), Shadowing())
    with capture_logs() as lines:
        for wait, logged in ((0.0, 1), (0.5, 1), (0.5, 2), (0.5, 2)):
            clock.advance(wait)
            await gate.admit(USAGE, context())
            assert [line["event"] for line in lines] == ["limit_shadow_denied"] * logged


async def test_unpriced_model_is_logged_again_after_a_minute(clock: FakeClock) -> None:
    gate = RateLimitService(RuleBook([LimitRule(**{**dict(DAILY), "on_no_price": "warn"})]), FakeLimiter())
    unpriced = replace(CHAT, unpriced="vllm/m")
    with capture_logs() as lines:
        for wait, logged in ((0.0, 1), (59.5, 1), (0.5, 2), (59.5, 2)):
            clock.advance(wait)
            await gate.admit(unpriced, context())
            assert [(line["event"], line["routes"]) for line in lines] == [("budget_price_unknown", "vllm/m")] * logged
