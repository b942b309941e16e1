"""What a request reserved is settled with what its response used, over HTTP: tokens and costs, JSON and streams."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import PATIENT, Platform
from tests.support.gateway.process import Gateway

TOKENS, USD = 5_000, 1.0
RULES = [
    {"name": "key-tpm", "scope": "key", "unit": "tokens", "limit": TOKENS, "window_seconds": 3600},
    {"name": "key-usd", "scope": "key", "unit": "cost_usd", "limit": USD, "window_seconds": 3600},
]
PRICE = {"input_usd_per_million": 10, "output_usd_per_million": 20}
CHAT = {"messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 1000}


@pytest.fixture(scope="module")
def settling(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway whose models have prices, with limits on tokens and costs."""
    directory = tmp_path_factory.mktemp("settling")
    config = directory / "platform.yaml"
    models = {
        name: {"routes": [{"provider": "sim", "model": name, "price": PRICE}]}
        for name in ("sim-ok", "sim-bad-request", "sim-slow-stream-300")
    }
    text = {
        "providers": {"sim": {"base_url": simulator.base_url, "api_key_secret": "OPENAI_API_KEY"}},
        "models": models,
        "rate_limits": {"rules": RULES},
        "policies": PATIENT,
    }
    config.write_text(yaml.safe_dump(text))
    with Gateway({**platform.environment, "PLATFORM_CONFIG_FILE": str(config)}, directory) as running:
        yield running


class Caller:
    """A new key, and what remains of its limits."""

    def __init__(self, client: httpx.AsyncClient, gateway: Gateway, key: str) -> None:
        self._client = client
        self._url = gateway.base_url
        self._headers = {"Authorization": f"Bearer {key}"}

    async def ask(self, path: str, **fields: Any) -> httpx.Response:
        body = {**CHAT, "model": "sim-ok", **fields}
        return await self._client.post(self._url + path, headers=self._headers, json=body)

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


def _cost(usage: dict[str, int]) -> float:
    return (10 * usage["prompt_tokens"] + 20 * usage["completion_tokens"]) / 1e6


@pytest.mark.parametrize("path", ["/v1/platform/chat", "/v1/chat/completions"])
async def test_response_is_charged_by_its_usage(caller: Caller, path: str) -> None:
    response = await caller.ask(path)
    usage = response.json()["usage"]
    assert usage["total_tokens"] < 100
    # While it ran, all of max_tokens was held.
    assert int(response.headers["x-ratelimit-remaining-tokens"]) <= TOKENS - 1000
    await _becomes(caller, TOKENS - usage["total_tokens"], USD - _cost(usage))


async def test_stream_is_charged_by_its_final_usage(caller: Caller) -> None:
    whole = (await caller.ask("/v1/chat/completions")).json()["usage"]
    streamed = await caller.ask("/v1/chat/completions", stream=True)
    assert "[DONE]" in streamed.text
    await _becomes(caller, TOKENS - 2 * whole["total_tokens"], USD - 2 * _cost(whole))


async def test_request_refused_by_provider_is_free(caller: Caller) -> None:
    assert (await caller.ask("/v1/chat/completions", model="sim-bad-request")).status_code == 400
    await _becomes(caller, TOKENS, USD)


async def test_abandoned_stream_is_charged_by_its_chunks(
    caller: Caller, client: httpx.AsyncClient, settling: Gateway
) -> None:
    body = {**CHAT, "model": "sim-slow-stream-300", "stream": True}
    url = f"{settling.base_url}/v1/chat/completions"
    async with client.stream("POST", url, headers=caller._headers, json=body) as stream:
        lines = stream.aiter_lines()  # kept: httpx closes the connection with a generator that has no reference
        await anext(lines)
        held, _ = await caller.left()
        assert held <= TOKENS - 1000
    async with asyncio.timeout(300):
        while (await caller.left())[0] <= TOKENS - 1000:
            await asyncio.sleep(0.02)
    tokens, usd = await caller.left()
    assert TOKENS - 100 < tokens < TOKENS
    assert USD - 0.01 < usd < USD
