"""The retries of the official clients and those of the gateway: they are not multiplied (kind 11)."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, Platform
from tests.support.gateway.process import Gateway, write_catalog
from tests.support.providers.wires import WIRES, simulated_providers

HELLO: Any = [{"role": "user", "content": "Hello"}]
TRIES = 3
CALLS = {
    "server-error": TRIES,
    "bad-gateway-html": TRIES,
    "malformed-json": TRIES,
    "role-then-error": TRIES,
    "unauthorized": 1,
    "payment-required": 1,
    "quota": 1,
    "method-not-allowed": 1,
    "conflict": 1,
    "detail-list": 1,
    "filtered": 1,
    "hang": 1,
}
"""Return the calls to the provider for one request of a client that retries twice; without the header 3 or 9."""


@pytest.fixture(scope="module")
def retrying(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Run a gateway that makes three attempts."""
    directory = tmp_path_factory.mktemp("retries")
    tokens = {"name": "tokens", "scope": "key", "unit": "tokens", "limit": 50, "window_seconds": 60}
    config = write_catalog(
        directory / "platform.yaml",
        simulated_providers(simulator),
        {f"{wire}-{fault}": [(wire, f"sim-{fault}@retries-{wire}")] for wire in WIRES for fault in (*CALLS, "ok")},
        rate_limits={"rules": [*GENEROUS["rules"], {**tokens, "models": [f"{wire}-ok" for wire in WIRES]}]},
        policies={
            "retry": {"max_attempts": TRIES, "base_seconds": 0.01, "max_seconds": 0.02},
            "breaker": {"minimum_calls": 100_000},
        },
    )
    environment = {
        **platform.environment,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_DEFAULT_MODEL": "openai-ok",
        "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS": "1",
    }
    with Gateway(environment, directory) as running:
        yield running


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("fault", CALLS)
@pytest.mark.parametrize("wire", WIRES)
async def test_client_does_not_multiply_gateway_retries(
    retrying: Gateway, simulator: ProviderSimulator, platform: Platform, wire: str, fault: str, stream: bool
) -> None:
    upstream = f"sim-{fault}@retries-{wire}"
    before = simulator.count(upstream)
    key = platform.key("platform:chat")
    async with AsyncOpenAI(base_url=f"{retrying.base_url}/v1", api_key=key, max_retries=2) as client:
        with pytest.raises(openai.APIStatusError) as raised:
            await client.chat.completions.create(model=f"{wire}-{fault}", messages=HELLO, stream=stream)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in raised.value.response.headers
    assert raised.value.body["request_id"] == raised.value.request_id  # type: ignore[index]
    assert simulator.count(upstream) - before == CALLS[fault]


async def test_request_above_its_limit_is_sent_once(
    retrying: Gateway, simulator: ProviderSimulator, platform: Platform
) -> None:
    """An error that no retry can fix says so, and has no time to wait."""
    key = platform.key("platform:chat")
    async with AsyncOpenAI(base_url=f"{retrying.base_url}/v1", api_key=key, max_retries=2) as client:
        with pytest.raises(openai.RateLimitError) as raised:
            await client.chat.completions.create(model="openai-ok", messages=HELLO, max_tokens=1000)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in raised.value.response.headers
