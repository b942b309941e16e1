"""The whole chain, from sections of a config file, around scripted routes."""

import asyncio
from typing import Any

import pytest

from platform_app.config import PlatformConfig
from platform_app.errors import (
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from platform_app.llm.errors import BreakerOpen
from platform_app.llm.interfaces import Upstream
from platform_app.llm.models.builder import routes_by_model
from platform_app.llm.models.route import Route
from platform_app.llm.policies.breaker import Phase
from platform_app.llm.policies.chain import build_policy_chains
from platform_app.llm.policies.fallback import Fallback
from platform_app.llm.policies.state import PolicyState
from tests.support.fakes.upstreams import RESPONSE, ScriptedUpstream, SlowUpstream, a_call
from tests.support.timing.virtual_time import now, virtual_time

BREAKER = {"minimum_calls": 4, "window_seconds": 600, "open_seconds": 15, "probes": 1}


def a_config(models: dict[str, list[str]], providers: dict[str, Any] | None = None, **policies: Any) -> PlatformConfig:
    """Routes are written `provider/model`."""
    names = {route.split("/")[0] for routes in models.values() for route in routes}
    return PlatformConfig.model_validate(
        {
            "providers": {
                name: {"base_url": "http://127.0.0.1:1/v1", **(providers or {}).get(name, {})} for name in names
            },
            "models": {
                public: {
                    "routes": [dict(zip(("provider", "model"), route.split("/"), strict=True)) for route in routes]
                }
                for public, routes in models.items()
            },
            "policies": {"breaker": BREAKER, **policies},
        }
    )


class Setting:
    """Create the chains of a config; `routes` are the scripted ends, by `provider/model`."""

    def __init__(self, config: PlatformConfig, **routes: ScriptedUpstream) -> None:
        self.routes = {name.replace("__", "/"): upstream for name, upstream in routes.items()}
        self.state = PolicyState()
        self.load(config)

    def load(self, config: PlatformConfig) -> None:
        catalog = routes_by_model(config)
        self.upstreams = build_policy_chains(config, catalog, self._route, self.state)

    def _route(self, route: Route) -> Upstream:
        return self.routes.setdefault(f"{route.provider}/{route.upstream_model}", ScriptedUpstream(RESPONSE))


@virtual_time
async def test_second_route_serves_while_first_is_down() -> None:
    setting = Setting(a_config({"m": ["a/x", "b/x"]}), a__x=ScriptedUpstream(ProviderError("x")))
    call = a_call()
    assert await setting.upstreams["m"].send(call) is RESPONSE
    assert (setting.routes["a/x"].calls, setting.routes["b/x"].calls) == (3, 1)
    assert call.attempt_log.attempts == 4


@virtual_time
async def test_open_breaker_skips_route_without_wait() -> None:
    setting = Setting(a_config({"m": ["a/x", "b/x"]}), a__x=ScriptedUpstream(ProviderError("x")))
    for _ in range(2):
        await setting.upstreams["m"].send(a_call())
    assert setting.routes["a/x"].calls == 4  # the fourth failure opened it, in the middle of the second call's attempts
    began = now()
    for _ in range(5):
        assert await setting.upstreams["m"].send(a_call()) is RESPONSE
    assert (setting.routes["a/x"].calls, now() - began) == (4, 0)


@virtual_time
async def test_retry_wait_is_short_with_another_route() -> None:
    limited = ProviderRateLimited("x", retry_after=4)
    setting = Setting(a_config({"m": ["a/x", "b/x"], "alone": ["a/x"]}), a__x=ScriptedUpstream(limited))
    began = now()
    assert await setting.upstreams["m"].send(a_call()) is RESPONSE
    assert (setting.routes["a/x"].calls, now() - began) == (1, 0)
    with pytest.raises(ProviderRateLimited):
        await setting.upstreams["alone"].send(a_call())
    assert setting.routes["a/x"].calls == 4
    assert now() - began >= 8


@virtual_time
async def test_chain_omits_unneeded_policies() -> None:
    setting = Setting(a_config({"m": ["a/x"]}))
    names = []
    at: Any = setting.upstreams["m"]
    while hasattr(at, "_upstream"):
        names.append(type(at).__name__)
        at = at._upstream
    assert names == ["FailureMetrics", "Deadline", "Retry", "Breaker"]


@virtual_time
async def test_chain_has_documented_order() -> None:
    setting = Setting(a_config({"m": ["a/x", "b/x"]}, {"a": {"max_concurrent": 1}}))
    outer: Any = setting.upstreams["m"]
    fallback = outer._upstream._upstream
    assert isinstance(fallback, Fallback)
    at: Any = fallback._choice.order(a_call()).candidates[0].upstream
    names = []
    while hasattr(at, "_upstream"):
        names.append(type(at).__name__)
        at = at._upstream
    assert names == ["Retry", "Breaker", "Concurrency"]


@virtual_time
async def test_retry_wait_uses_no_concurrency_place() -> None:
    config = a_config({"m": ["a/x"]}, {"a": {"max_concurrent": 1, "max_waiting": 0}})
    setting = Setting(config, a__x=ScriptedUpstream(ProviderRateLimited("x", retry_after=5), RESPONSE))
    waiting = asyncio.create_task(setting.upstreams["m"].send(a_call()))
    await asyncio.sleep(1)
    assert await setting.upstreams["m"].send(a_call()) is RESPONSE
    assert await waiting is RESPONSE


@virtual_time
async def test_full_provider_falls_back_at_once() -> None:
    config = a_config({"m": ["a/x", "b/x"]}, {"a": {"max_concurrent": 1, "max_waiting": 0}})
    setting = Setting(config, a__x=SlowUpstream(30.0))
    busy = asyncio.create_task(setting.upstreams["m"].send(a_call()))
    await asyncio.sleep(1)
    began = now()
    assert await setting.upstreams["m"].send(a_call()) is RESPONSE
    assert (now() - began, setting.routes["b/x"].calls) == (0, 1)
    await busy


@virtual_time
async def test_concurrency_limit_is_shared_by_models() -> None:
    config = a_config({"m": ["a/x"], "n": ["a/y"]}, {"a": {"max_concurrent": 2}}, queue_seconds=600)
    shared = SlowUpstream(1.0)
    setting = Setting(config, a__x=shared, a__y=shared)
    await asyncio.gather(*(setting.upstreams[model].send(a_call()) for model in ("m", "n") * 4))
    assert (shared.most_running, shared.calls) == (2, 8)


@virtual_time
async def test_breaker_is_shared_by_public_names_of_route() -> None:
    down = ScriptedUpstream(ProviderUnavailable("x"))
    setting = Setting(a_config({"m": ["a/x"], "n": ["a/x"], "o": ["a/y"]}), a__x=down)
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            await setting.upstreams["m"].send(a_call())
    with pytest.raises(BreakerOpen):
        await setting.upstreams["n"].send(a_call())
    assert await setting.upstreams["o"].send(a_call()) is RESPONSE


@virtual_time
async def test_no_chain_outlives_the_deadline() -> None:
    config = a_config({"m": ["a/x", "b/x"]}, {"a": {"max_concurrent": 1}})
    setting = Setting(config, a__x=SlowUpstream(4.0, ProviderError("x")), b__x=SlowUpstream(1000.0))
    began = now()
    with pytest.raises(ProviderTimeout):
        await setting.upstreams["m"].send(a_call(30.0))
    assert now() - began <= 30.1
    assert setting.routes["b/x"].running == 0


class TestReload:
    @virtual_time
    async def test_reload_keeps_state_of_kept_routes(self) -> None:
        capped = {"a": {"max_concurrent": 1}}
        setting = Setting(
            a_config({"m": ["a/x"], "n": ["b/x"]}, capped, queue_seconds=100),
            a__x=SlowUpstream(30.0),
            b__x=ScriptedUpstream(ProviderError("x")),
        )
        for _ in range(2):
            with pytest.raises(ProviderError if setting.routes["b/x"].calls == 0 else BreakerOpen):
                await setting.upstreams["n"].send(a_call())
        before = asyncio.create_task(setting.upstreams["m"].send(a_call()))
        await asyncio.sleep(1)
        setting.load(a_config({"m": ["a/x"], "n": ["b/x"], "new": ["c/x"]}, capped, queue_seconds=100))
        with pytest.raises(BreakerOpen):
            await setting.upstreams["n"].send(a_call())
        began = now()
        await setting.upstreams["m"].send(a_call(200))
        assert now() - began == pytest.approx(59.0)  # 29 s until the call from before the reload freed its place
        await before

    @virtual_time
    async def test_reload_drops_state_of_removed_routes(self) -> None:
        setting = Setting(a_config({"m": ["a/x", "b/x"]}, {"a": {"max_concurrent": 1}, "b": {"max_concurrent": 1}}))
        for number in range(50):
            setting.load(a_config({"m": [f"a/x{number}"]}, {"a": {"max_concurrent": 1}}))
        assert len(setting.state._breakers) == 1
        assert len(setting.state._limits) == 1
        setting.load(a_config({"m": ["a/x"]}))
        assert len(setting.state._limits) == 0

    @virtual_time
    async def test_changed_config_replaces_breaker(self) -> None:
        config = a_config({"m": ["a/x"]})
        setting = Setting(config, a__x=ScriptedUpstream(ProviderError("x")))
        for _ in range(2):
            with pytest.raises((ProviderError, BreakerOpen)):
                await setting.upstreams["m"].send(a_call())
        route = routes_by_model(config)["m"][0]
        assert setting.state.breaker(route, config.policies.breaker).phase is Phase.OPEN
        setting.load(a_config({"m": ["a/x"]}, breaker={**BREAKER, "minimum_calls": 5}))
        setting.routes["a/x"].steps = [RESPONSE]
        assert await setting.upstreams["m"].send(a_call()) is RESPONSE
