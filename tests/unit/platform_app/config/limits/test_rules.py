"""Limit rules: what the file may say, and what contradicts itself is refused with words."""

from typing import Any

import pytest
from pydantic import ValidationError

from apps.platform_api.main import create_app
from apps.platform_api.security.guard import LimitedBy
from apps.platform_api.security.route_check import api_routes, guard_of
from platform_app.config import LimitRule, RateLimitsConfig, load_settings
from platform_app.config.limits.checks import LIMITED_ROUTES, MODEL_ROUTES

RPM = {"name": "rpm", "scope": "key", "limit": 60, "window_seconds": 60}
GOOD: dict[str, dict[str, Any]] = {
    "requests": RPM,
    "tokens": {"name": "tpm", "scope": "key_model", "unit": "tokens", "limit": 100_000, "window_seconds": 60},
    "concurrent": {"name": "streams", "scope": "owner", "unit": "concurrent", "limit": 5},
    "daily": {
        "name": "daily", "scope": "key", "unit": "cost_usd", "limit": 2.5, "window": "day",
        "time_zone": "Europe/Berlin",
    },
    "monthly": {
        "name": "monthly", "scope": "global", "unit": "cost_usd", "limit": "1000.000001", "window": "month",
        "time_zone": "UTC",
    },
    "rolling cost": {"name": "hourly", "scope": "model", "unit": "cost_usd", "limit": 1, "window_seconds": 3600},
    "own limits only": {"name": "own", "scope": "key", "unit": "tokens", "window_seconds": 60},
    "shadow": {**RPM, "mode": "shadow", "on_outage": "closed"},
    "models": {**RPM, "models": ["gpt-4o"], "routes": ["/v1/platform/chat"]},
    "counts of tokens for models": {**RPM, "models": ["gpt-4o"], "routes": ["/v1/messages/count_tokens"]},
    "counts of tokens by model": {**RPM, "scope": "key_model", "routes": ["/v1/messages/count_tokens"]},
}  # fmt: skip


@pytest.mark.parametrize("rule", GOOD.values(), ids=GOOD)
def test_good_rules(rule: dict[str, Any]) -> None:
    assert RateLimitsConfig.model_validate({"rules": [rule]}).rules[0].name == rule["name"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"limit": 0}, "greater than 0"),
        ({"limit": 1.5}, "requests are whole numbers"),
        ({"limit": 2_000_000_000}, "less than or equal"),
        ({"window_seconds": None}, "exactly one of window_seconds and window"),
        ({"window": "day", "time_zone": "UTC"}, "exactly one of window_seconds and window"),
        ({"window_seconds": None, "window": "day", "time_zone": "UTC"}, "a calendar window is for tokens and cost_usd"),
        ({"time_zone": "UTC"}, "window and time_zone belong together"),
        ({"unit": "tokens", "window_seconds": None, "window": "day"}, "window and time_zone belong together"),
        ({"unit": "tokens", "window_seconds": None, "window": "day", "time_zone": "Mars/Base"}, "is not a time zone"),
        ({"unit": "concurrent"}, "concurrent requests have no window"),
        ({"limit": None, "scope": "owner"}, "does not count by key"),
        ({"routes": ["/v1/nonsense"]}, "is not a route with limits"),
        ({"unit": "tokens", "routes": ["/v1/models"]}, "calls no model"),
        ({"unit": "tokens", "routes": ["/v1/messages/count_tokens"]}, "calls no model"),
        ({"unit": "concurrent", "routes": ["/v1/messages/count_tokens"]}, "calls no model"),
        ({"models": ["gpt-4o"], "routes": ["/v1/models"]}, "calls no model"),
        ({"scope": "model", "routes": ["/v1/models"]}, "calls no model"),
        ({"unit": "cost_usd", "limit": "0.0000001"}, "decimal places"),
        ({"mode": "loud"}, "shadow"),
        ({"burst": 5}, "not permitted"),
    ],
)
def test_bad_rules_say_what_is_wrong(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LimitRule.model_validate(RPM | change)
    assert words in str(caught.value)


def rule(name: str, scope: str, limit: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "scope": scope, "limit": limit, "window_seconds": 60, **more}


@pytest.mark.parametrize(
    "rules",
    [
        [rule("a", "key", 60), rule("b", "global", 50)],
        [rule("a", "key", 60), rule("b", "owner", 60, window_seconds=3600)],
        [rule("a", "key", 60), rule("b", "key", 60)],
        [rule("a", "key_model", 9, unit="tokens"), rule("b", "model", 9, unit="tokens")],
        [rule("a", "key", 60, routes=["/v1/models"]), rule("b", "key", 60)],
        [rule("a", "key", 60, mode="shadow"), rule("b", "key", 60)],
        [
            rule("a", "key", 9, unit="cost_usd", window_seconds=None, window="day", time_zone="UTC"),
            rule("b", "key", 8, unit="cost_usd", window_seconds=None, window="month", time_zone="UTC"),
        ],
    ],
)
def test_rule_that_can_never_decide_is_refused(rules: list[dict[str, Any]]) -> None:
    for order in (rules, rules[::-1]):
        with pytest.raises(ValidationError) as caught:
            RateLimitsConfig.model_validate({"rules": order})
        assert "can never decide" in str(caught.value)


@pytest.mark.parametrize(
    "rules",
    [
        [rule("a", "key", 60), rule("b", "owner", 70)],
        [rule("a", "key", 60), rule("b", "route", 50)],
        [rule("a", "key", 60), rule("b", "key", 50, window_seconds=1)],
        [rule("a", "key", 60), rule("b", "global", 50, unit="tokens")],
        [rule("a", "key", 60), rule("b", "global", 50, routes=["/v1/models"])],
        [rule("a", "key", 60), rule("b", "global", 50, mode="shadow")],
        [{"name": "a", "scope": "key", "window_seconds": 60}, rule("b", "key", 50)],
    ],
)
def test_rules_that_can_each_decide_are_fine(rules: list[dict[str, Any]]) -> None:
    RateLimitsConfig.model_validate({"rules": rules})


@pytest.mark.parametrize(
    ("name", "limit", "good"),
    [
        ("requests", 5, True), ("requests", 5.0, True), ("requests", 5.5, False), ("requests", 0, False),
        ("requests", 10**10, False), ("daily", 2.5, True), ("daily", 0.0000001, False), ("daily", 0, False),
        ("tokens", float("nan"), False), ("daily", float("nan"), False), ("daily", float("inf"), False),
    ],
)  # fmt: skip
def test_own_limit_of_key_is_checked(name: str, limit: float, good: bool) -> None:
    problem = LimitRule.model_validate(GOOD[name]).own_limit_problem(limit)
    assert (problem is None) is good


def test_routes_are_those_of_the_app() -> None:
    """Every route that charges is known here by its way of limiting; a name that the app lacks is only a hope."""
    app = create_app(load_settings(database_url="postgresql://unused", redis_url="redis://localhost"))
    limited_by = {
        route.path_format: guard.limited_by for route in api_routes(app) if (guard := guard_of(route)) is not None
    }
    charging = {path for path, by in limited_by.items() if by is not LimitedBy.NOTHING_CHARGED}
    assert charging <= LIMITED_ROUTES
    calling = {path for path, by in limited_by.items() if by is LimitedBy.CHAT_SERVICE}
    assert calling - MODEL_ROUTES <= {"/v1/messages/count_tokens"}  # it generates nothing, so it has no tokens or cost
    assert not {path for path, by in limited_by.items() if by is LimitedBy.GUARD} & MODEL_ROUTES
