"""The strategies of a model over HTTP: least_busy, latency, no affinity, and a breaker that opens."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import GENEROUS, Platform
from tests.support.gateway.chat_routes import CHAT, MESSAGES, RESPONSES, ChatRoute
from tests.support.gateway.http import metric, until
from tests.support.gateway.process import Gateway
from tests.support.providers.failover.faulty_provider import Call, FaultyProvider

WIRES = {CHAT: "openai", RESPONSES: "openai-responses", MESSAGES: "anthropic"}
QUICK, SLOW = "quick", "slow"
CALLS = 40
MOST_SLOW = 8
"""A draw by weight would send 20 of 40 calls to the slow route, and at most 8 of them once in 10,000 runs."""
POLICIES = {
    "retry": {"max_attempts": 1},
    "breaker": {"failure_ratio": 0.5, "minimum_calls": 2, "window_seconds": 300, "open_seconds": 2, "probes": 1},
}


class Scene:
    """What the provider does now."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        """Held calls get their responses."""
        self.down: set[str] = set()
        """Upstream models that fail."""
        self.slow_seconds = 0.0


_scene = Scene()


async def _held(call: Call) -> None:
    await _scene.open.wait()
    await call.good()


async def _slow(call: Call) -> None:
    await asyncio.sleep(_scene.slow_seconds)
    await call.good()


async def _flapping(call: Call) -> None:
    if call.attempt.model in _scene.down:
        await call.fail(500, None, "An internal error.")
    else:
        await call.good()


@pytest.fixture(scope="module")
async def running_provider() -> AsyncIterator[FaultyProvider]:
    faults = {"held-a": _held, "held-b": _held, SLOW: _slow, "flaps-a": _flapping, "flaps-b": _flapping}
    async with FaultyProvider(faults) as running:
        yield running


@pytest.fixture
def provider(running_provider: FaultyProvider) -> Iterator[FaultyProvider]:
    """The provider without a memory; held calls end with the test."""
    running_provider.reset()
    _scene.open.clear()
    _scene.down.clear()
    yield running_provider
    _scene.open.set()


def _model(names: tuple[str, str], weights: tuple[int, int] = (1, 1), wire: str = "openai", **more: Any) -> Any:
    routes = [{"provider": wire, "model": name, "weight": weight} for name, weight in zip(names, weights, strict=True)]
    return {"routes": routes, **more}


@pytest.fixture(scope="module")
def gateway(
    platform: Platform, running_provider: FaultyProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway with one worker: what a strategy knows of a route's load is what its process knows."""
    directory = tmp_path_factory.mktemp("strategies")
    held, flaps = ("held-a", "held-b"), ("flaps-a", "flaps-b")
    config = {
        "providers": {
            wire: {
                "wire_format": wire, "base_url": running_provider.url_of(wire), "api_key_secret": "OPENAI_API_KEY",
            }
            for wire in WIRES.values()
        },
        "models": {
            "least-busy": _model(held, (3, 1), strategy="least_busy", affinity=False),
            "least-busy-sessions": _model(held, strategy="least_busy"),
            "latency": _model((QUICK, SLOW), strategy="latency", affinity=False),
            "scattered": _model(("scattered-a", "scattered-b"), affinity=False),
            **{f"flaps/{wire}": _model(flaps, wire=wire) for wire in WIRES.values()},
        },
        "policies": POLICIES,
        "rate_limits": GENEROUS,
    }  # fmt: skip
    file = directory / "platform.yaml"
    file.write_text(yaml.safe_dump(config))
    own = {"PLATFORM_CONFIG_FILE": str(file), "PLATFORM_DEFAULT_MODEL": "scattered"}
    with Gateway({**platform.environment, **own}, directory) as running:
        yield running


class Caller:
    """Sends the same request again and again, so that all its calls belong to one session."""

    def __init__(self, client: httpx.AsyncClient, gateway: Gateway, key: str) -> None:
        self._client, self._url = client, gateway.base_url
        self._headers = {"Authorization": f"Bearer {key}"}

    async def ask(self, model: str, route: ChatRoute = CHAT) -> tuple[str, int]:
        """Return the upstream model that responded, and the number of attempts."""
        body = route.body("The same beginning", model=model)
        response = await self._client.post(self._url + route.path, headers=self._headers, json=body)
        assert response.status_code == 200, response.text
        return response.headers["x-platform-model"], int(response.headers["x-platform-attempts"])


@pytest.fixture
async def caller(gateway: Gateway, chat_key: str) -> AsyncIterator[Caller]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=300, limits=limits, trust_env=False) as client:
        yield Caller(client, gateway, chat_key)


async def _hold(caller: Caller, provider: FaultyProvider, model: str, number: int) -> list[str]:
    """Send calls, each once the provider has the one before, and return their upstream models in order."""
    calls = []
    for count in range(1, number + 1):
        calls.append(asyncio.create_task(caller.ask(model)))
        await until(lambda count=count: len(provider.attempts) == count)  # type: ignore[misc]
    _scene.open.set()
    await asyncio.gather(*calls)
    return [attempt.model for attempt in provider.attempts]


async def test_least_busy_balances_calls_in_flight(caller: Caller, provider: FaultyProvider) -> None:
    """The calls in flight are exactly in proportion to the weights, although all calls belong to one session."""
    found = await _hold(caller, provider, "least-busy", 12)
    assert Counter(found) == {"held-a": 9, "held-b": 3}
    assert [Counter(found[:number])["held-b"] for number in (4, 8)] == [1, 2]


async def test_least_busy_session_leaves_only_busy_route(caller: Caller, provider: FaultyProvider) -> None:
    """12 calls in flight are not yet 1.25 times the route's share and 4 more; 13 are."""
    found = await _hold(caller, provider, "least-busy-sessions", 16)
    assert len(set(found[:12])) == 1
    assert 1 <= len([model for model in found if model != found[0]]) <= 4


async def test_latency_prefers_the_quick_route(caller: Caller, provider: FaultyProvider) -> None:
    """The slow route takes several times as long as the slowest call along the quick one, on any machine."""
    slowest = 0.0

    async def ask() -> str:
        nonlocal slowest
        began = time.monotonic()
        _scene.slow_seconds = 2 + 5 * slowest
        model, _ = await caller.ask("latency")
        if model == QUICK:
            slowest = max(slowest, time.monotonic() - began)
        return model

    async with asyncio.timeout(300):
        while {attempt.model for attempt in provider.attempts} != {QUICK, SLOW}:
            await ask()
    found = Counter([await ask() for _ in range(CALLS)])
    assert found[SLOW] <= MOST_SLOW


async def test_session_is_scattered_without_affinity(caller: Caller, gateway: Gateway) -> None:
    """64 calls of one session use both routes; no call counts as one of a session."""
    assert {(await caller.ask("scattered"))[0] for _ in range(64)} == {"scattered-a", "scattered-b"}
    assert metric(gateway.metrics(), "platform_session_routes_total", model="scattered") == 0


@pytest.mark.parametrize("route", WIRES, ids=lambda route: route.name)
async def test_session_moves_while_breaker_is_open(
    caller: Caller, gateway: Gateway, provider: FaultyProvider, route: ChatRoute
) -> None:
    """The session's second choice gets its calls at the first attempt while the breaker of the first choice is open;
    then the session returns."""
    model = f"flaps/{WIRES[route]}"
    first, _ = await caller.ask(model, route)
    assert {await caller.ask(model, route) for _ in range(5)} == {(first, 1)}
    _scene.down.add(first)
    [second] = {"flaps-a", "flaps-b"} - {first}
    assert await caller.ask(model, route) == (second, 2)
    async with asyncio.timeout(300):
        while await caller.ask(model, route) != (second, 1):
            await asyncio.sleep(0.05)
        _scene.down.clear()
        while await caller.ask(model, route) != (first, 1):
            await asyncio.sleep(0.05)
    assert {await caller.ask(model, route) for _ in range(5)} == {(first, 1)}
    moved = {"model": model, "outcome": "breaker_open"}
    await until(lambda: metric(gateway.metrics(), "platform_session_routes_total", **moved) >= 1)
