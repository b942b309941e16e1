"""The gate: headers on every answer, words on a refusal."""

import pytest

from platform_app.config import LimitRule
from platform_app.errors import LimiterUnavailable, RateLimited
from platform_app.rate_limit.gate import RateLimitGate
from platform_app.rate_limit.rule import rule_of
from platform_app.rate_limit.rules import RuleBook, Usage
from tests.unit.fakes import FakeLimiter, context

RULE = LimitRule(name="key-rpm", scope="key", limit=60, window_seconds=60)
USAGE = Usage("k" * 12, "team-a", "/v1/platform/chat")


async def test_an_allowed_request_gets_its_headers() -> None:
    limiter, request = FakeLimiter(), context()
    await RateLimitGate(RuleBook([RULE]), limiter).charge(USAGE, request)
    assert request.response_headers["x-ratelimit-remaining-requests"] == "59"
    [[charge]] = limiter.asked
    assert (charge.rule, charge.counter, charge.cost) == (rule_of(RULE), "fbp:rl:{kkkkkkkkkkkk}:key-rpm:requests:60", 1)


async def test_a_refusal_names_rule_limit_window_and_wait() -> None:
    limiter, request = FakeLimiter(), context()
    limiter.deny_seconds = 11.2
    with pytest.raises(RateLimited) as caught:
        await RateLimitGate(RuleBook([RULE]), limiter).charge(USAGE, request)
    error = caught.value
    assert error.message == "The rate limit 'key-rpm' is reached. Try again in 12 s."
    assert error.details == ["key-rpm: 60 requests in any 60 s, counted by key"]
    assert error.retry_after == 12
    assert request.response_headers["ratelimit"] == '"key-rpm";r=0;t=12'


async def test_an_unavailable_limiter_is_not_hidden() -> None:
    limiter, request = FakeLimiter(), context()
    limiter.down = True
    with pytest.raises(LimiterUnavailable):
        await RateLimitGate(RuleBook([RULE]), limiter).charge(USAGE, request)
    assert request.response_headers == {}


async def test_all_rules_cost_one_call() -> None:
    limiter = FakeLimiter()
    rules = [RULE, LimitRule(name="all-rpm", scope="global", limit=600, window_seconds=60)]
    await RateLimitGate(RuleBook(rules), limiter).charge(USAGE, context())
    assert [[charge.rule.name for charge in asked] for asked in limiter.asked] == [["key-rpm", "all-rpm"]]
