"""What a change of the config file keeps of breakers, limits and loads."""

from typing import Any

from prometheus_client import REGISTRY

from platform_app.config import PlatformConfig
from platform_app.llm.policies.breaker import Phase
from platform_app.llm.policies.concurrency import ConcurrencyLimit
from platform_app.llm.policies.failure_table import Health
from platform_app.llm.policies.state import PolicyState
from tests.support.fakes.upstreams import a_route
from tests.support.timing.virtual_time import now, virtual_time

ROUTE = a_route("kept")


def a_config(minimum_calls: int = 4, **provider: Any) -> PlatformConfig:
    return PlatformConfig.model_validate(
        {
            "providers": {"kept": {"base_url": "http://127.0.0.1:1/v1", **provider}},
            "models": {"public": {"routes": [{"provider": "kept", "model": "large"}]}},
            "policies": {"breaker": {"minimum_calls": minimum_calls}, "queue_seconds": 5},
        }
    )


def gauge() -> float | None:
    labels = {"provider": "kept", "model": "large"}
    return REGISTRY.get_sample_value("platform_provider_breaker_state", labels)


def test_equal_config_keeps_the_breaker() -> None:
    state = PolicyState()
    first = state.breaker(ROUTE, a_config().policies.breaker)
    assert state.breaker(ROUTE, a_config().policies.breaker) is first
    assert state.breaker(ROUTE, a_config(5).policies.breaker) is not first


def test_replaced_breaker_changes_nothing_any_more() -> None:
    """Calls that began before fail after it, and only the new breaker is seen."""
    state = PolicyState()
    before = state.breaker(ROUTE, a_config().policies.breaker)
    late = [before.admit() for _ in range(4)]
    new = state.breaker(ROUTE, a_config(5).policies.breaker)
    for permit in late:
        permit.settle(Health.FAILS)
    assert (before.phase, new.phase, gauge()) == (Phase.CLOSED, Phase.CLOSED, Phase.CLOSED)


def test_dropped_breaker_changes_nothing_any_more() -> None:
    state = PolicyState()
    before = state.breaker(ROUTE, a_config().policies.breaker)
    late = [before.admit() for _ in range(4)]
    state.keep_only([], a_config())
    for permit in late:
        permit.settle(Health.FAILS)
    assert gauge() == Phase.CLOSED


@virtual_time
async def test_changed_limit_applies_to_the_same_provider() -> None:
    state = PolicyState()
    limit = state.concurrency_limit("kept", a_config(max_concurrent=1))
    assert isinstance(limit, ConcurrencyLimit)
    assert state.concurrency_limit("kept", a_config(max_concurrent=3)) is limit
    for _ in range(3):
        assert await limit.acquire(now() + 60) is False
    assert limit.in_use == 3
    assert state.concurrency_limit("kept", a_config()) is None


def test_load_belongs_to_the_route_of_all_models() -> None:
    state = PolicyState()
    load = state.load(ROUTE)
    assert state.load(a_route("kept", weight=3)) is load
    assert state.load(a_route("kept", "small")) is not load
    assert state.load(a_route("other")) is not load


def test_load_of_a_dropped_route_is_forgotten() -> None:
    state = PolicyState()
    load, dropped = state.load(ROUTE), state.load(a_route("kept", "small"))
    state.keep_only([ROUTE], a_config())
    assert state.load(ROUTE) is load
    assert state.load(a_route("kept", "small")) is not dropped
