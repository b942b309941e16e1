"""Budgets hold against providers that count wrongly and models without a price, over HTTP (issue 11, money)."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from apps.provider_simulator.faults.odd_usage import SHAPES
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import PATIENT, PROVIDER_KEY, Platform
from tests.support.commands.command_line import cli
from tests.support.gateway.chat_routes import CHAT, PLATFORM, ROUTES, ChatRoute, over_routes
from tests.support.gateway.process import Gateway
from tests.support.providers.wires import WIRES, url_of

USD = 0.05
PRICE = {"input_usd_per_million": 100, "output_usd_per_million": 1000}
MOST_REQUESTS = 12
"""A request costs 10 tokens of output, 0.01 USD, or somewhat less by the estimate."""
RULE = {"name": "usd", "scope": "key", "unit": "cost_usd", "limit": USD, "window": "day", "time_zone": "UTC"}
NUMBERS = (0, 1, 2, 3, 6, 9, 13)
"""Zeros, whole floats, 10**19, 2**63, null, 100,000,000 and no usage at all; tests/contract has the others."""
COUNTED = 1
"""The shape whose numbers are plausible, and far above the right ones."""


@pytest.fixture(scope="module")
def budgets(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway with a budget for each key; its models count wrongly, over every wire format, or have no price."""
    directory = tmp_path_factory.mktemp("budgets")
    providers = {
        wire: {"wire_format": wire, "base_url": url_of(wire, simulator), "api_key_secret": "OPENAI_API_KEY"}
        | ({"api_version": "2024-10-21"} if wire == "azure" else {})
        for wire in WIRES
    }
    models: dict[str, Any] = {
        f"{wire}-{number}": {"routes": [{"provider": wire, "model": f"sim-odd-usage-{number}", "price": PRICE}]}
        for wire in WIRES
        for number in range(len(SHAPES))
    }
    models["unpriced"] = {"routes": [{"provider": "openai", "model": "sim-ok"}]}
    models["half-priced"] = {
        "routes": [
            {"provider": "openai", "model": "sim-ok", "price": PRICE}, {"provider": "azure", "model": "sim-ok"},
        ]
    }  # fmt: skip
    text = {
        "providers": providers,
        "models": models,
        "rate_limits": {"rules": [RULE]},
        "policies": PATIENT,
    }
    config = directory / "platform.yaml"
    config.write_text(yaml.safe_dump(text))
    environment = {**platform.environment, "PLATFORM_CONFIG_FILE": str(config), "OPENAI_API_KEY": PROVIDER_KEY}
    with Gateway({**environment, "PLATFORM_DEFAULT_MODEL": "openai-0"}, directory) as running:
        yield running


class Caller:
    """A client with a separate key, and so with a separate budget."""

    def __init__(self, client: httpx.AsyncClient, gateway: Gateway, platform: Platform) -> None:
        self._client = client
        self._url = gateway.base_url
        self._headers = {"Authorization": f"Bearer {platform.key('platform:chat', 'platform:embeddings')}"}

    async def ask(self, route: ChatRoute, **fields: Any) -> httpx.Response:
        body = route.body("tokens: 10", max_tokens=12, **fields)
        return await self._client.post(self._url + route.path, headers=self._headers, json=body)

    async def requests_until_refused(self, route: ChatRoute, **fields: Any) -> int:
        for passed in range(MOST_REQUESTS + 1):
            response = await self.ask(route, **fields)
            if response.status_code != 200:
                assert (response.status_code, route.code_of(response.json())) == (429, "budget_exceeded")
                return passed
        return MOST_REQUESTS + 1


@pytest.fixture
def caller(client: httpx.AsyncClient, budgets: Gateway, platform: Platform) -> Caller:
    return Caller(client, budgets, platform)


@pytest.mark.parametrize("streams", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("wire", WIRES)
async def test_budget_holds_for_any_provider_usage(caller: Caller, wire: str, number: int, streams: bool) -> None:
    """No form of usage makes calls free, and impossible counts do not use up a budget. Each provider format is asked
    over each route, with other numbers."""
    route = ROUTES[(NUMBERS.index(number) + WIRES.index(wire)) % len(ROUTES)]
    passed = await caller.requests_until_refused(route, model=f"{wire}-{number}", stream=streams)
    assert 1 <= passed <= MOST_REQUESTS
    if number != COUNTED:
        assert passed >= 3, "impossible counts used up the budget"


@over_routes
async def test_absurd_counts_are_not_reported_as_usage(caller: Caller, route: ChatRoute) -> None:
    """A client that speaks the provider's format gets the provider's bytes; the others get no counts that are not
    charged."""
    response = await caller.ask(route, model="openai-2")
    assert response.status_code == 200
    assert (str(10**19) in response.text) is (route is CHAT)
    if route is PLATFORM:
        assert response.json()["usage"] is None


@pytest.mark.parametrize("model", ["unpriced", "half-priced"])
@pytest.mark.parametrize("streams", [False, True], ids=["json", "stream"])
@over_routes
async def test_model_without_price_is_refused(
    caller: Caller, simulator: ProviderSimulator, route: ChatRoute, streams: bool, model: str
) -> None:
    before = simulator.count("sim-ok")
    response = await caller.ask(route, model=model, stream=streams)
    error = response.json()["error"]
    assert (response.status_code, route.code_of(response.json())) == (403, "price_unknown")
    assert "budget 'usd'" in error["message"]
    assert error.get("type", "permission_error") == "permission_error"
    assert model in error["message"]
    assert simulator.count("sim-ok") == before


async def test_embeddings_without_price_are_refused(
    client: httpx.AsyncClient, budgets: Gateway, platform: Platform
) -> None:
    headers = {"Authorization": f"Bearer {platform.key('platform:embeddings')}"}
    body = {"model": "unpriced", "input": "Hello"}
    response = await client.post(f"{budgets.base_url}/v1/embeddings", headers=headers, json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (403, "price_unknown")


async def test_check_names_unpriced_route_and_rule(budgets: Gateway) -> None:
    """The command prints one line for each route without a price and each budget that applies to it."""
    outcome = await asyncio.to_thread(cli, budgets.environment, "check", "--no-live")
    assert outcome.code == 1, outcome.all
    failed = [line for line in outcome.out.splitlines() if "no price is known" in line]
    assert sorted(line.split()[3] for line in failed) == ["half-priced", "unpriced"]
    assert all(line.startswith("FAIL  price of ") for line in failed)
    routes = {line.split()[3]: line.partition("route ")[2].partition(":")[0] for line in failed}
    assert routes == {"half-priced": "azure/sim-ok", "unpriced": "openai/sim-ok"}
    assert all("rule 'usd' refuses" in line for line in failed)
