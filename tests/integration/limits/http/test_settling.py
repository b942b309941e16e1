"""What a request reserved is settled with what its response used, over HTTP: tokens and costs, JSON and streams."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import PATIENT, Platform
from tests.support.gateway.chat_routes import CHAT, MESSAGES, RESPONSES, ChatRoute, over_routes
from tests.support.gateway.process import Gateway
from tests.support.providers.wires import WIRES, url_of

TOKENS, USD = 5_000, 1.0
RULES = [
    {"name": "key-tpm", "scope": "key", "unit": "tokens", "limit": TOKENS, "window_seconds": 3600},
    {"name": "key-usd", "scope": "key", "unit": "cost_usd", "limit": USD, "window_seconds": 3600},
]
PRICE = {"input_usd_per_million": 10, "output_usd_per_million": 20}


@pytest.fixture(scope="module")
def settling(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway whose models have prices, with limits on tokens and costs."""
    directory = tmp_path_factory.mktemp("settling")
    config = directory / "platform.yaml"
    providers = {
        wire: {"wire_format": wire, "base_url": url_of(wire, simulator), "api_key_secret": "OPENAI_API_KEY"}
        | ({"api_version": "2024-10-21"} if wire == "azure" else {})
        for wire in WIRES
    }
    models = {
        f"{wire}/{name}": {"routes": [{"provider": wire, "model": name, "price": PRICE}]}
        for wire in WIRES
        for name in ("sim-ok", "sim-bad-request", "sim-slow-stream-300")
    }
    text = {
        "providers": providers,
        "models": models,
        "rate_limits": {"rules": RULES},
        "policies": PATIENT,
    }
    config.write_text(yaml.safe_dump(text))
    own = {"PLATFORM_CONFIG_FILE": str(config), "PLATFORM_DEFAULT_MODEL": "openai/sim-ok"}
    with Gateway({**platform.environment, **own}, directory) as running:
        yield running


class Caller:
    """A new key, and what remains of its limits."""

    def __init__(self, client: httpx.AsyncClient, gateway: Gateway, key: str) -> None:
        self._client = client
        self._url = gateway.base_url
        self._headers = {"Authorization": f"Bearer {key}"}

    async def ask(self, route: ChatRoute, model: str = "openai/sim-ok", **fields: Any) -> httpx.Response:
        body = route.body("Hello there", max_tokens=1000, model=model, **fields)
        return await self._client.post(self._url + route.path, headers=self._headers, json=body)

    async def left(self) -> tuple[float, float]:
        """Tokens and US dollars."""
        answer = await self._client.get(f"{self._url}/v1/platform/limits", headers=self._headers)
        found = {rule["rule"]: rule["remaining"] for rule in answer.json()["data"]}
        return found["key-tpm"], found["key-usd"]


@pytest.fixture
def caller(client: httpx.AsyncClient, settling: Gateway, platform: Platform) -> Caller:
    return Caller(client, settling, platform.key("platform:chat"))


async def _becomes(caller: Caller, tokens: float, usd: float) -> None:
    """The settlement may arrive after the response."""
    async with asyncio.timeout(300):
        while True:
            tokens_left, usd_left = await caller.left()
            if tokens_left == tokens and abs(usd_left - usd) < 1e-6:
                return
            await asyncio.sleep(0.02)


def _cost(usage: tuple[int, int]) -> float:
    return (10 * usage[0] + 20 * usage[1]) / 1e6


@over_routes
async def test_response_is_charged_by_its_usage(caller: Caller, route: ChatRoute) -> None:
    """Over each provider format, with one key, so that the charges add up."""
    spent, usd = 0, 0.0
    for wire in WIRES:
        response = await caller.ask(route, f"{wire}/sim-ok")
        usage = route.usage_of(response.json())
        assert 0 < sum(usage) < 100
        # While it ran, all of max_tokens was reserved.
        assert int(response.headers["x-ratelimit-remaining-tokens"]) <= TOKENS - spent - 1000
        spent, usd = spent + sum(usage), usd + _cost(usage)
        await _becomes(caller, TOKENS - spent, USD - usd)


@over_routes
async def test_stream_is_charged_by_its_final_usage(caller: Caller, route: ChatRoute) -> None:
    spent, usd = 0, 0.0
    for wire in WIRES:
        usage = route.usage_of((await caller.ask(route, f"{wire}/sim-ok")).json())
        streamed = await caller.ask(route, f"{wire}/sim-ok", stream=True)
        assert route.is_complete(streamed.content)
        spent, usd = spent + 2 * sum(usage), usd + 2 * _cost(usage)
    await _becomes(caller, TOKENS - spent, USD - usd)


@over_routes
async def test_request_refused_by_provider_is_free(caller: Caller, route: ChatRoute) -> None:
    for wire in WIRES:
        assert (await caller.ask(route, f"{wire}/sim-bad-request")).status_code == 400
    await _becomes(caller, TOKENS, USD)


ABANDONED = [(CHAT, "openai"), (RESPONSES, "openai-responses"), (RESPONSES, "anthropic"), (MESSAGES, "anthropic"),
             (MESSAGES, "openai")]  # fmt: skip
"""Each route over a provider of the same format, and the two newer routes over another format."""


@pytest.mark.parametrize(("route", "wire"), [pytest.param(*each, id=f"{each[0].name}-{each[1]}") for each in ABANDONED])
async def test_abandoned_stream_is_charged_by_its_chunks(
    caller: Caller, client: httpx.AsyncClient, settling: Gateway, route: ChatRoute, wire: str
) -> None:
    body = route.body("Hello there", max_tokens=1000, model=f"{wire}/sim-slow-stream-300", stream=True)
    async with client.stream("POST", settling.base_url + route.path, headers=caller._headers, json=body) as stream:
        chunks = stream.aiter_bytes()  # kept: httpx closes the connection with a generator that has no reference
        received = b""
        while not route.stream_text(received[: received.rfind(b"\n\n") + 2]):
            received += await anext(chunks)
        reserved, _ = await caller.left()
        assert reserved <= TOKENS - 1000
    async with asyncio.timeout(300):
        while (await caller.left())[0] <= TOKENS - 1000:
            await asyncio.sleep(0.02)
    tokens, usd = await caller.left()
    assert TOKENS - 100 < tokens < TOKENS
    assert USD - 0.01 < usd < USD
