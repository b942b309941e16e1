"""Fields that would choose another model, provider or address, over HTTP; and the body that is checked is the one that
is sent."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, PATIENT, Platform
from tests.support.gateway.process import Gateway, write_catalog

CHAT, EMBEDDINGS, PLATFORM = "/v1/chat/completions", "/v1/embeddings", "/v1/platform/chat"
MESSAGES = [{"role": "user", "content": "Hello"}]
BODIES: dict[str, dict[str, Any]] = {CHAT: {"messages": MESSAGES}, EMBEDDINGS: {"input": "Hello"}}


@pytest.fixture(scope="module")
def key(platform: Platform) -> str:
    return platform.key("platform:chat", "platform:embeddings", models=["sim-ok", "open", "strict", "mixed"])


@pytest.fixture(scope="module")
def catalog(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Run a gateway with three configurations of the simulator as provider: default, with allowed fields, and with
    known fields only."""
    directory = tmp_path_factory.mktemp("steering")
    url = simulator.base_url
    config = write_catalog(
        directory / "platform.yaml",
        {
            "plain": {"base_url": url},
            "open": {"base_url": url, "allow_fields": ["models", "service_tier"]},
            "strict": {"base_url": url, "only_known_fields": True, "allow_fields": ["min_p"]},
        },
        {
            "sim-ok": [("plain", "sim-ok")],
            "open": [("open", "sim-ok")],
            "strict": [("strict", "sim-ok")],
            "mixed": [("open", "sim-ok"), ("plain", "sim-ok")],
        },
        rate_limits=GENEROUS,
        policies=PATIENT,
    )
    with Gateway({**platform.environment, "PLATFORM_CONFIG_FILE": str(Path(config))}, directory) as running:
        yield running


async def post(
    client: httpx.AsyncClient, gateway: Gateway, key: str, path: str, body: object, **headers: str
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers}
    return await client.post(f"{gateway.base_url}{path}", headers=headers, content=content)


@pytest.mark.parametrize("path", [CHAT, EMBEDDINGS])
@pytest.mark.parametrize("field", ["models", "fallbacks", "route", "provider", "api_base", "data_sources", "Model"])
async def test_steering_field_gets_400_and_is_not_sent(
    client: httpx.AsyncClient, catalog: Gateway, key: str, simulator: ProviderSimulator, path: str, field: str
) -> None:
    simulator.reset()
    response = await post(client, catalog, key, path, {**BODIES[path], "model": "sim-ok", field: ["sim-secret"]})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "invalid_request", field)
    assert field in error["message"]
    assert simulator.stats() == {}


@pytest.mark.parametrize(
    ("model", "fields", "status"),
    [
        ("open", {"models": ["other"], "service_tier": "priority"}, 200),
        ("open", {"fallbacks": ["other"]}, 400),
        ("mixed", {"models": ["other"]}, 400),
        ("sim-ok", {"brand_new": 1}, 200),
        ("sim-ok", {"service_tier": "priority"}, 400),
        ("sim-ok", {"tools": [{"type": "mcp", "server_url": "https://example.com"}]}, 400),
        ("strict", {"min_p": 0.1}, 200),
        ("strict", {"brand_new": 1}, 400),
    ],
)
async def test_allow_fields_decides_what_provider_gets(
    client: httpx.AsyncClient,
    catalog: Gateway,
    key: str,
    simulator: ProviderSimulator,
    model: str,
    fields: dict[str, Any],
    status: int,
) -> None:
    response = await post(client, catalog, key, CHAT, {"messages": MESSAGES, "model": model, **fields})
    assert response.status_code == status
    if status == 200:
        received = simulator.requests()[-1].body
        assert received is not None
        assert {name: json.loads(received)[name] for name in fields} == fields


async def test_refused_field_leaves_idempotency_key_unused(
    client: httpx.AsyncClient, catalog: Gateway, key: str
) -> None:
    headers = {"Idempotency-Key": "steering-1"}
    refused = await post(client, catalog, key, CHAT, {"messages": MESSAGES, "models": []}, **headers)
    assert refused.status_code == 400
    worked = await post(client, catalog, key, CHAT, {"messages": MESSAGES}, **headers)
    assert worked.status_code == 200
    assert "idempotency-replayed" not in worked.headers


@pytest.mark.parametrize("path", [CHAT, PLATFORM])
@pytest.mark.parametrize(
    "members",
    [
        b'"model":"sim-ok","model":"not-allowed"',
        b'"model":"sim-ok","mod\\u0065l":"not-allowed"',
        b'"model":null,"model":"not-allowed"',
    ],
)
async def test_repeated_model_is_checked_by_last_value(
    client: httpx.AsyncClient, catalog: Gateway, key: str, path: str, members: bytes
) -> None:
    body = b'{%b,"messages":[{"role":"user","content":"Hello"}]}' % members
    assert (await post(client, catalog, key, path, body)).status_code in (403, 404)


async def test_repeated_members_are_sent_once(
    client: httpx.AsyncClient, catalog: Gateway, key: str, simulator: ProviderSimulator
) -> None:
    body = (
        b'{"model":"not-allowed","model":"sim-ok","messages":[],"messages":[{"role":"user","content":"Hello"}],'
        b'"n":9,"n":1,"metadata":{"a":"1","a":"2"}}'
    )
    assert (await post(client, catalog, key, CHAT, body)).status_code == 200
    received = simulator.requests()[-1].body
    assert received is not None
    pairs = json.loads(received, object_pairs_hook=lambda found: found)
    assert sorted(name for name, _ in pairs) == ["messages", "metadata", "model", "n"]
    assert dict(pairs)["model"] == "sim-ok"
    assert dict(pairs)["n"] == 1
    assert dict(pairs)["metadata"] == [("a", "2")]
