"""A worker's cap on requests at once, PLATFORM_MAX_CONCURRENT_REQUESTS."""

from collections.abc import Iterator

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway.http import chat_request, connect, metric, until
from tests.support.gateway.process import Gateway

CAP = 2
HANGING = {"prompt": "Hello", "model": "sim-hang"}


@pytest.fixture
def capped(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    environment = {**platform.environment, "PLATFORM_MAX_CONCURRENT_REQUESTS": str(CAP)}
    with Gateway(environment, tmp_path_factory.mktemp("capped")) as running:
        yield running


async def test_request_over_the_cap_is_refused_until_one_ends(
    capped: Gateway, client: httpx.AsyncClient, simulator: ProviderSimulator, chat_key: str
) -> None:
    simulator.reset()
    headers = {"Authorization": f"Bearer {chat_key}"}

    async def ask() -> httpx.Response:
        return await client.post(capped.chat_url, headers=headers, json={"prompt": "Hello"})

    assert (await ask()).status_code == 200
    async with connect(capped) as leaves, connect(capped) as stays:
        for number, connection in enumerate((leaves, stays)):
            await connection.send(chat_request(chat_key, HANGING, f"capped-{number}"))
        await until(lambda: simulator.count("sim-hang") == CAP)

        calls = simulator.count("sim-ok")
        refused = await ask()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert simulator.count("sim-ok") == calls
        for path in ("/livez", "/healthz", "/readyz"):
            assert (await client.get(capped.base_url + path)).status_code == 200, "probes are never refused"

        leaves.writer.transport.abort()
        await until(lambda: metric(capped.metrics(), "platform_http_requests_in_flight") == 1)
        assert (await ask()).status_code == 200
