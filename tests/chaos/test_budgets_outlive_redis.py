"""A month's budget continues where it was after `kill -9` of Valkey and a restart without data (issue 11, budgets)."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import PATIENT, PROVIDER_KEY, Platform
from tests.support.gateway.process import Gateway
from tests.support.servers.valkey import own_server

pytestmark = pytest.mark.proof

BUDGET, EACH = 200, 28
"""US dollars: of the month, and of one request."""
PRICE = {"input_usd_per_million": 0, "output_usd_per_million": 1_000_000}
ASKED = {"model": "sim-ok", "messages": [{"role": "user", "content": f"tokens: {EACH}"}], "max_tokens": EACH}
RULE = {"name": "usd", "unit": "cost_usd", "limit": BUDGET, "window": "month", "time_zone": "Europe/Berlin"}


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedValkey]:
    with own_server() as server:
        yield server


@pytest.fixture(params=["key", "owner"])
def gateway(
    request: pytest.FixtureRequest,
    platform: Platform,
    own_valkey: EmbeddedValkey,
    simulator: ProviderSimulator,
    tmp_path: Path,
) -> Iterator[Gateway]:
    config = tmp_path / "platform.yaml"
    text = {
        "providers": {"sim": {"base_url": simulator.base_url, "api_key_secret": "OPENAI_API_KEY"}},
        "models": {"sim-ok": {"routes": [{"provider": "sim", "model": "sim-ok", "price": PRICE}]}},
        "rate_limits": {"rules": [{**RULE, "scope": request.param}]},
        "policies": PATIENT,
    }
    config.write_text(yaml.safe_dump(text))
    environment = {
        **platform.environment,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_REDIS_URL": own_valkey.url,
        "PLATFORM_DEFAULT_MODEL": "sim-ok",
        "OPENAI_API_KEY": PROVIDER_KEY,
    }
    with Gateway(environment, tmp_path, workers=2) as running:
        yield running


async def test_budget_continues_after_valkey_was_killed(
    gateway: Gateway, own_valkey: EmbeddedValkey, platform: Platform, client: httpx.AsyncClient
) -> None:
    """56 of 200 dollars are spent before; after it five more requests of 28 fit, and not seven."""
    owner = f"team-{gateway.port}"
    headers = {"Authorization": f"Bearer {platform.key('platform:chat', owner=owner)}"}

    async def ask() -> httpx.Response:
        return await client.post(f"{gateway.base_url}/v1/chat/completions", headers=headers, json=ASKED)

    async def left() -> Any:
        response = await client.get(f"{gateway.base_url}/v1/platform/limits", headers=headers)
        [rule] = response.json()["data"]
        return rule["remaining"]

    async def becomes(dollars: int) -> None:
        async with asyncio.timeout(300):
            while await left() != dollars:
                await asyncio.sleep(0.05)

    for _ in range(2):
        assert (await ask()).status_code == 200
    await becomes(BUDGET - 2 * EACH)
    own_valkey.kill()
    own_valkey.start()
    await becomes(BUDGET - 2 * EACH)
    statuses = []
    for count in range(3, 9):
        statuses.append((await ask()).status_code)
        if statuses[-1] == 200:
            await becomes(BUDGET - count * EACH)
    assert statuses == [200] * 5 + [429]
