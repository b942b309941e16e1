"""A decision as headers: exact strings."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.platform_api.limits.headers import duration, rate_limit_headers
from platform_app.rate_limit.calendar import Calendar
from platform_app.rate_limit.limiter import Decision, RuleState
from platform_app.rate_limit.rule import Kind, Rule

MINUTE = Rule("key-rpm", "key", "requests", 60, window_seconds=60)
DAY = Rule("key-rpd", "key", "requests", 1000, window_seconds=86400)


def test_allowed_request_shows_the_tightest_rule() -> None:
    decision = Decision((RuleState(MINUTE, 30, 2.25), RuleState(DAY, 12, 3661.5)))
    assert rate_limit_headers(decision.states, decision.denied_by) == {
        "ratelimit-policy": '"key-rpd";q=1000;w=86400',
        "ratelimit": '"key-rpd";r=12;t=3662',
        "x-ratelimit-limit-requests": "1000",
        "x-ratelimit-remaining-requests": "12",
        "x-ratelimit-reset-requests": "1h1m1.5s",
    }


def test_denied_request_shows_the_denying_rule() -> None:
    denier = RuleState(MINUTE, 0, 11.001)
    headers = rate_limit_headers((RuleState(DAY, 0, 80000.0), denier), denier)
    assert headers["ratelimit-policy"] == '"key-rpm";q=60;w=60'
    assert headers["ratelimit"] == '"key-rpm";r=0;t=12'
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "11.001s"


def test_headers_contain_no_retry_after() -> None:
    """RateLimited carries it (test_gate); twice, a client would read `12, 12`."""
    denier = RuleState(MINUTE, 0, 11.001)
    assert "retry-after" not in rate_limit_headers((denier,), denier)


def test_no_headers_without_rules() -> None:
    assert rate_limit_headers(()) == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0001, "1ms"),
        (0.012, "12ms"),
        (0.999, "999ms"),
        (0.9991, "1s"),
        (1, "1s"),
        (1.5, "1.5s"),
        (59.999, "59.999s"),
        (59.9991, "1m0s"),
        (60, "1m0s"),
        (90.25, "1m30.25s"),
        (360, "6m0s"),
        (3599.9999, "1h0m0s"),
        (7200, "2h0m0s"),
        (86400 + 61, "24h1m1s"),
        (31 * 86400, "744h0m0s"),
    ],
)
def test_duration_format_matches_openai(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "retry_after"), [(0.0, 1), (0.001, 1), (1.0, 1), (1.0001, 2), (11.999, 12), (12.0, 12)]
)
def test_retry_after_is_rounded_up_and_at_least_one(seconds: float, retry_after: int) -> None:
    state = RuleState(MINUTE, 0, seconds)
    assert Decision((state,), state).retry_after == retry_after


@given(st.floats(0, 31 * 86400))
def test_retry_after_is_never_earlier_than_the_reset(seconds: float) -> None:
    state = RuleState(MINUTE, 0, seconds)
    decision = Decision((state,), state)
    reset = int(rate_limit_headers(decision.states, decision.denied_by)["ratelimit"].rpartition("t=")[2])
    assert decision.retry_after >= reset >= seconds
    assert decision.retry_after <= max(1, math.ceil(seconds))


def test_allowed_decision_has_no_retry_after() -> None:
    decision = Decision((RuleState(MINUTE, 3, 5.0),))
    assert decision.allowed
    assert decision.retry_after == 0


TOKENS = Rule("key-tpm", "key", "tokens", 100_000, Kind.RESERVED_WINDOW, window_seconds=60)
SLOTS = Rule("streams", "owner", "concurrent", 5, Kind.CONCURRENCY)
BUDGET = Rule("daily", "owner", "cost_usd", 2_500_000, Kind.RESERVED_CALENDAR, calendar=Calendar("day", "UTC"))


def test_each_unit_shows_its_tightest_rule() -> None:
    loose = Rule("all-tpm", "global", "tokens", 10_000_000, Kind.RESERVED_WINDOW, window_seconds=60)
    states = (
        RuleState(MINUTE, 30, 2.25), RuleState(loose, 9_000_000, 9.0), RuleState(TOKENS, 12_000, 30.5),
        RuleState(SLOTS, 4, 1.0), RuleState(BUDGET, 2_000_000, 3600.0),
    )  # fmt: skip
    assert rate_limit_headers(states) == {
        "ratelimit-policy": (
            '"key-tpm";q=100000;w=60, "key-rpm";q=60;w=60, "streams";q=5;qu="concurrent-requests", '
            '"daily";q=2500000;qu="micro-usd";w=86400'
        ),
        "ratelimit": ('"key-tpm";r=12000;t=31, "key-rpm";r=30;t=3, "streams";r=4;t=1, "daily";r=2000000;t=3600'),
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "30",
        "x-ratelimit-reset-requests": "2.25s",
        "x-ratelimit-limit-tokens": "100000",
        "x-ratelimit-remaining-tokens": "12000",
        "x-ratelimit-reset-tokens": "30.5s",
    }


def test_denying_rule_comes_first_for_its_unit() -> None:
    denier, fuller = RuleState(TOKENS, 900, 5.0), RuleState(MINUTE, 0, 1.0)
    tighter = RuleState(Rule("t2", "key", "tokens", 10, Kind.RESERVED_WINDOW, window_seconds=60), 0, 50.0)
    headers = rate_limit_headers((fuller, tighter, denier), denier)
    assert headers["ratelimit"] == '"key-tpm";r=900;t=5, "key-rpm";r=0;t=1'
    assert headers["x-ratelimit-remaining-tokens"] == "900"


def test_shadow_rules_have_no_headers() -> None:
    shadow = Rule("s", "key", "requests", 5, window_seconds=60, shadow=True)
    assert rate_limit_headers((RuleState(shadow, 0, 5.0, shadow_denied=True),)) == {}
    assert rate_limit_headers((RuleState(shadow, 0, 5.0), RuleState(MINUTE, 30, 2.25)))["ratelimit"].startswith('"key')
