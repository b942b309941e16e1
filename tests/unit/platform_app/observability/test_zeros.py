"""Series that an alert reads exist before the first failure: a burst within one scrape would be no increase."""

from prometheus_client import REGISTRY

from platform_app.config import LimitRule, PlatformConfig
from platform_app.errors import Conflict, InsufficientScope, InvalidApiKey, NotFound, ValidationFailed
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.models.builder import ModelBuilder
from platform_app.observability.metrics.zeros import KEY_ACTIONS, KEY_REFUSALS, PROVIDER_OUTCOMES
from platform_app.rate_limit.matching import RuleBook
from tests.support.ledger.database import settings_for
from tests.support.providers.policy_chains import FixedCredentials


def value(name: str, **labels: str) -> float | None:
    """Return the value of a series; None if it does not exist."""
    return REGISTRY.get_sample_value(f"platform_{name}_total", labels)


def test_refused_key_changes_start_at_zero() -> None:
    refusals = {each.code for each in (Conflict, InsufficientScope, InvalidApiKey, NotFound, ValidationFailed)}
    assert refusals == set(KEY_REFUSALS)
    for action in KEY_ACTIONS:
        for outcome in ("ok", *refusals):
            assert value("key_changes", action=action, outcome=outcome) is not None


def test_configured_providers_start_at_zero() -> None:
    """Also of a route that a change of the config file adds."""
    base = {"base_url": "http://zero.example/v1"}
    builder = ModelBuilder(ConnectionPool(1), settings_for("postgresql://u@127.0.0.1/d"), FixedCredentials())
    for name in ("zero-first", "zero-second"):
        sections = {
            "providers": {name: {**base, "max_concurrent": 1}},
            "models": {f"{name}-*": {"routes": [{"provider": name, "model": "*"}]}},
        }
        builder.build(PlatformConfig.model_validate(sections))
        for outcome in PROVIDER_OUTCOMES:
            assert value("provider_requests", provider=name, model=f"{name}-*", outcome=outcome) == 0
        assert value("provider_usage_refused", provider=name, model=f"{name}-*") == 0
        for reason in ("queue_full", "queue_timeout", "breaker_open"):
            assert value("provider_refused", provider=name, reason=reason) == 0


def test_configured_rules_start_at_zero() -> None:
    rule = {"scope": "key", "limit": 1, "window_seconds": 60}
    closed = LimitRule(name="zero-closed", on_outage="closed", **rule)
    shadow = LimitRule(name="zero-shadow", on_outage="closed", mode="shadow", **rule)
    budget = LimitRule(name="zero-budget", unit="cost_usd", on_no_price="refuse", **rule)
    book = RuleBook([])
    book.replace([closed, shadow, budget])
    assert value("limiter_closed", rule="zero-closed") == 0
    assert value("limiter_closed", rule="zero-shadow") is None
    assert value("limiter_closed", rule="zero-budget") is None
    assert value("budget_unpriced", rule="zero-budget", action="refused") == 0
    assert value("budget_unpriced", rule="zero-closed", action="warned") is None
