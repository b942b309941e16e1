"""Azure's paths are aliases of guarded routes: the same key, scope, model, limit, record and Idempotency-Key."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from apps.platform_api.openai.azure_paths import serve_azure_path
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway.http import access_line, chat_head, connect, metric
from tests.support.gateway.process import Gateway, write_config

CHAT = "/v1/chat/completions"
MESSAGES = {"messages": [{"role": "user", "content": "Hello"}]}
RULE = {"name": "chat-rpm", "scope": "key", "routes": [CHAT], "limit": 2, "window_seconds": 3600}


@pytest.fixture(scope="module")
def limited(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Two requests an hour for each key at OpenAI's chat route, and nowhere else."""
    directory = tmp_path_factory.mktemp("azure-limits")
    config = write_config(
        directory / "platform.yaml",
        simulator.base_url,
        {"sim-ok": "sim-ok", "team/sim-ok": "sim-ok", "text-embedding-3-small": "text-embedding-3-small"},
        rate_limits={"rules": [RULE]},
    )
    with Gateway({**platform.environment, "PLATFORM_CONFIG_FILE": str(config)}, directory) as running:
        yield running


def deployment(model: str, operation: str = "chat/completions") -> str:
    return f"/openai/deployments/{model}/{operation}?api-version=2024-10-21"


async def ask(client: httpx.AsyncClient, gateway: Gateway, path: str, key: str, **headers: str) -> httpx.Response:
    body: dict[str, Any] = {"input": "Hello"} if "embeddings" in path else MESSAGES
    return await client.post(gateway.base_url + path, headers={"api-key": key, **headers}, json=body)


def code(response: httpx.Response) -> Any:
    return response.json()["error"]["code"]


async def test_rule_of_the_route_applies_at_every_path(
    limited: Gateway, client: httpx.AsyncClient, platform: Platform
) -> None:
    """No alias bypasses a limit that names the route."""
    key = platform.key()
    paths = [deployment("sim-ok"), CHAT, "/openai/v1/chat/completions", deployment("team%2Fsim-ok"), CHAT]
    found = [(await ask(client, limited, path, key)).status_code for path in paths[:1]]
    body = {"model": "sim-ok", **MESSAGES}
    for path in paths[1:]:
        response = await client.post(limited.base_url + path, headers={"api-key": key}, json=body)
        found.append(response.status_code)
    assert found == [200, 200, 429, 429, 429]


async def test_known_denial_comes_before_the_body(
    limited: Gateway, client: httpx.AsyncClient, platform: Platform
) -> None:
    """A caller over its limit is refused before its body is requested, at Azure's paths too."""
    key = platform.key()
    for _ in range(3):
        await ask(client, limited, deployment("sim-ok"), key)
    head = chat_head(key, "early", "Content-Length: 1000000", "Expect: 100-continue", path=deployment("sim-ok"))
    async with connect(limited) as connection:
        await connection.send(head)
        status_line = await connection.reader.readline()
    assert status_line.startswith(b"HTTP/1.1 429 ")


async def test_requests_are_recorded_under_the_routes_name(
    gateway: Gateway, client: httpx.AsyncClient, chat_key: str
) -> None:
    """Text of a client in the path never becomes a label."""
    response = await ask(client, gateway, deployment("sim-ok"), chat_key)
    line = await access_line(gateway, response.headers["x-request-id"])
    assert (line["route"], line["model"], line["status"]) == (CHAT, "sim-ok", 200)
    await ask(client, gateway, deployment("no-such-model-7"), chat_key)
    text = gateway.metrics()
    assert "no-such-model-7" not in text
    assert "/openai/" not in text
    assert metric(text, "platform_http_requests_total", route=CHAT, status="200") >= 1


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        (deployment("sim-ok"), 200, None),
        (deployment("sim-ok").partition("?")[0], 200, None),
        (deployment("team%2Fsim-ok"), 200, None),
        (deployment("team/sim-ok"), 200, None),
        (deployment("no-such"), 404, "model_not_found"),
        (deployment("%2F"), 404, "model_not_found"),
        (deployment("x" * 257), 400, "invalid_request"),
        (deployment(""), 404, "not_found"),
        (deployment("sim-ok") + "&model=other", 422, "validation_error"),
        (deployment("sim-ok", "completions"), 404, "not_found"),
        (deployment("text-embedding-3-small", "embeddings"), 403, "insufficient_scope"),
        ("/openai/platform/chat", 404, "not_found"),
        ("/openai/v1/platform/chat", 404, "not_found"),
        ("/openai/v1/platform/api-keys", 404, "not_found"),
    ],
)
async def test_each_path_returns_its_status(
    limited: Gateway, client: httpx.AsyncClient, platform: Platform, path: str, status: int, expected: str | None
) -> None:
    response = await ask(client, limited, path, platform.key())
    assert response.status_code == status
    if expected is not None:
        assert code(response) == expected
        assert set(response.json()["error"]) >= {"message", "type", "param", "code"}  # OpenAI's shape


async def test_key_scope_and_models_are_checked(
    gateway: Gateway, client: httpx.AsyncClient, platform: Platform
) -> None:
    only_one = platform.key(models=["sim-ok"])
    assert (await ask(client, gateway, deployment("sim-ok"), only_one)).status_code == 200
    refused = await ask(client, gateway, deployment("sim-server-error"), only_one)
    assert (refused.status_code, code(refused)) == (403, "model_not_allowed")
    assert code(await ask(client, gateway, deployment("sim-ok"), "fbp_test_nonsense")) == "invalid_api_key"
    without = await client.post(gateway.base_url + deployment("sim-ok"), json=MESSAGES)
    assert (without.status_code, code(without)) == (401, "missing_credentials")
    reader = platform.key("platform:models:read")
    assert code(await ask(client, gateway, deployment("sim-ok"), reader)) == "insufficient_scope"


async def test_model_of_the_path_overrides_the_bodys(
    gateway: Gateway, client: httpx.AsyncClient, platform: Platform, simulator: ProviderSimulator
) -> None:
    """As with Azure. A body cannot bypass the check of the path's model."""
    only_one = platform.key(models=["sim-ok"])
    for other in ("sim-server-error", 7, None, {"a": 1}):
        before = simulator.count("sim-ok")
        response = await client.post(
            gateway.base_url + deployment("sim-ok"), headers={"api-key": only_one}, json={"model": other, **MESSAGES}
        )
        assert (response.status_code, response.headers["x-platform-model"]) == (200, "sim-ok")
        assert simulator.count("sim-ok") == before + 1


async def test_idempotency_key_distinguishes_deployments(
    gateway: Gateway, client: httpx.AsyncClient, chat_key: str
) -> None:
    """The body is the same for every deployment, the response is not."""
    first = await ask(client, gateway, deployment("sim-ok"), chat_key, **{"Idempotency-Key": "azure-1"})
    again = await ask(client, gateway, deployment("sim-ok"), chat_key, **{"Idempotency-Key": "azure-1"})
    other = await ask(client, gateway, deployment("sim-slow"), chat_key, **{"Idempotency-Key": "azure-1"})
    assert (first.status_code, again.status_code, again.headers.get("idempotency-replayed")) == (200, 200, "true")
    assert (other.status_code, code(other)) == (422, "validation_error")


@pytest.mark.parametrize(
    "path",
    ["/openai", "/openai/", "/openai/models/", "/openai/v2/models", "/openai/deployments", "/openai/deployments/x",
     "/openai/deployments//chat/completions", "/OpenAI/models", "/openai/v1/v1/models", "/v1/openai/models"],
)  # fmt: skip
def test_other_paths_are_not_rewritten(path: str) -> None:
    scope: dict[str, Any] = {"path": path, "state": {}}
    assert not serve_azure_path(scope)
    assert scope == {"path": path, "state": {}}
