"""The strategy of a model in the config file decides which route gets a call. The routes here are `a`, which has no
weight, `b` and `c`."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from platform_app.config import PlatformConfig
from platform_app.llm.models.builder import routes_by_model
from platform_app.llm.models.route import Route
from platform_app.llm.policies.chain import build_policy_chains
from platform_app.llm.policies.state import PolicyState
from tests.support.fakes.upstreams import RESPONSE, ScriptedUpstream, SlowUpstream, a_call
from tests.support.timing.virtual_time import virtual_time


class Setting:
    """The chains of a model `m` with this strategy."""

    def __init__(self, strategy: str, weights: Sequence[int], ends: dict[str, ScriptedUpstream] | None = None) -> None:
        routes: list[dict[str, Any]] = [{"provider": "a", "model": "x"}]
        routes += [
            {"provider": name, "model": "x", "weight": weight} for name, weight in zip("bc", weights, strict=True)
        ]
        config = PlatformConfig.model_validate(
            {
                "providers": {name: {"base_url": "http://127.0.0.1:1/v1"} for name in "abc"},
                "models": {"m": {"strategy": strategy, "routes": routes}},
            }
        )
        self.ends = ends or {name: ScriptedUpstream(RESPONSE) for name in "abc"}
        self.state = PolicyState()
        catalog = routes_by_model(config)
        self.routes = {route.provider: route for route in catalog["m"]}
        self.upstream = build_policy_chains(config, catalog, self._end, self.state)["m"]

    def _end(self, route: Route) -> ScriptedUpstream:
        return self.ends[route.provider]

    def calls(self) -> list[int]:
        return [self.ends[name].calls for name in "abc"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every draw choose the first of the routes that are left to it, without exploring."""
    monkeypatch.setattr(random, "random", lambda: 0.1)


@pytest.mark.usefixtures("drawn")
@virtual_time
async def test_least_busy_counts_calls_in_flight_by_weight() -> None:
    setting = Setting("least_busy", [1, 3], {name: SlowUpstream(1.0) for name in "abc"})
    await asyncio.gather(*(setting.upstream.send(a_call()) for _ in range(8)))
    assert setting.calls() == [0, 2, 6]


@virtual_time
async def test_weighted_calls_are_not_observed() -> None:
    setting = Setting("weighted", [1, 3])
    await setting.upstream.send(a_call())
    assert sum(setting.calls()) == 1
    assert [setting.state.load(setting.routes[name]).first_content_seconds(False) for name in "bc"] == [None, None]


@pytest.mark.parametrize(("strategy", "calls"), [("latency", [0, 0, 1]), ("least_busy", [0, 1, 0])])
@pytest.mark.usefixtures("drawn")
@virtual_time
async def test_only_latency_prefers_the_faster_route(strategy: str, calls: list[int]) -> None:
    setting = Setting(strategy, [1, 1])
    for name, seconds in (("b", 9.0), ("c", 1.0)):
        setting.state.load(setting.routes[name]).responded(False, time.monotonic() - seconds)
    await setting.upstream.send(a_call())
    assert setting.calls() == calls
