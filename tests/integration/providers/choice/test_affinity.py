"""Sessions over two workers: the share of cached input, and what the records say of sessions and wildcards."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway.process import Gateway

SESSIONS, TURNS = 6, 20
SYSTEM = "You are a careful assistant of the billing department. " * 40


def route(model: str, weight: int | None = None) -> dict[str, Any]:
    return {"provider": "sim", "model": model} | ({} if weight is None else {"weight": weight})


@pytest.fixture(scope="module")
def gateway(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("affinity")
    config = {
        "providers": {"sim": {"base_url": simulator.base_url, "api_key_secret": "OPENAI_API_KEY"}},
        "models": {
            "sim-ok": {"routes": [route("sim-ok")]},
            "one": {"routes": [route("cached-one")]},
            "three": {"routes": [route(f"cached-{name}", 1) for name in "abc"]},
            "wild/*": {"routes": [route("*")]},
        },
        "rate_limits": {"rules": [{"name": "all", "scope": "global", "limit": 1_000_000, "window_seconds": 60}]},
    }
    file = directory / "platform.yaml"
    file.write_text(json.dumps(config))
    with Gateway({**platform.environment, "PLATFORM_CONFIG_FILE": str(file)}, directory, workers=2) as started:
        yield started


@pytest.fixture
async def api(gateway: Gateway, platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    """A client that opens a connection for each request, so that both workers get turns of each session."""
    headers = {"Authorization": f"Bearer {await asyncio.to_thread(platform.key, 'platform:*')}"}
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(
        base_url=gateway.base_url, headers=headers, limits=limits, timeout=300, trust_env=False
    ) as client:
        yield client


async def session_of(api: httpx.AsyncClient, model: str, name: str) -> tuple[int, int, set[str]]:
    """Hold a session without a header. Return its prompt tokens, those that were cached, and the routes."""
    messages = [{"role": "system", "content": SYSTEM}]
    prompt = cached = 0
    routes = set()
    for turn in range(TURNS):
        messages.append({"role": "user", "content": f"Question {turn} of {name}: what does this invoice mean?"})
        response = await api.post("/v1/chat/completions", json={"model": model, "messages": messages})
        assert response.status_code == 200, response.text
        body = response.json()
        routes.add(response.headers["x-platform-model"])
        prompt += body["usage"]["prompt_tokens"]
        cached += body["usage"]["prompt_tokens_details"]["cached_tokens"]
        messages.append({"role": "assistant", "content": body["choices"][0]["message"]["content"]})
    return prompt, cached, routes


async def cached_share(api: httpx.AsyncClient, model: str) -> tuple[float, list[set[str]]]:
    found = [await session_of(api, model, f"{model} {number}") for number in range(SESSIONS)]
    return sum(cached for _, cached, _ in found) / sum(prompt for prompt, _, _ in found), [each[2] for each in found]


async def test_three_routes_cache_as_much_as_one(api: httpx.AsyncClient, gateway: Gateway) -> None:
    """Each session stays on one of three equal routes over two workers: at least 95 % of one route's cached share."""
    one, _ = await cached_share(api, "one")
    three, routes = await cached_share(api, "three")
    assert all(len(each) == 1 for each in routes)
    assert len(set().union(*routes)) > 1
    assert three >= 0.95 * one > 0.5
    metrics = (await api.get(f"http://127.0.0.1:{gateway.metrics_port}/metrics")).text
    assert f'platform_session_routes_total{{model="three",outcome="first_choice"}} {float(SESSIONS * TURNS)}' in metrics


async def test_records_have_session_and_requested_name(api: httpx.AsyncClient, gateway: Gateway) -> None:
    """The wildcard is the model in metrics; the concrete name is in the response and in the usage record."""
    body = {"model": "wild/cached-4711", "messages": [{"role": "user", "content": "Hello"}]}
    response = await api.post("/v1/chat/completions", json=body, headers={"X-Session-Id": "conversation 1"})
    assert response.status_code == 200, response.text
    assert (response.json()["model"], response.headers["x-platform-model"]) == ("wild/cached-4711", "cached-4711")
    usage = await usage_of(api, response.headers["x-request-id"])
    names = [usage[name] for name in ("session", "model", "requested_model", "upstream_model")]
    assert names == ["conversation 1", "wild/*", "wild/cached-4711", "cached-4711"]
    metrics = (await api.get(f"http://127.0.0.1:{gateway.metrics_port}/metrics")).text
    assert "cached-4711" not in metrics
    assert 'model="wild/*"' in metrics


@pytest.mark.parametrize("value", ["x" * 129, "tab\there", "sk-proj-4f9a8b7c6d5e4f3a2b1c0d9e"])
async def test_session_header_that_cannot_be_kept_is_refused(api: httpx.AsyncClient, value: str) -> None:
    body = {"model": "one", "messages": [{"role": "user", "content": "Hello"}]}
    response = await api.post("/v1/chat/completions", json=body, headers={"X-Session-Id": value})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "X-Session-Id"
    assert value not in response.text


async def usage_of(api: httpx.AsyncClient, request_id: str) -> dict[str, Any]:
    async with asyncio.timeout(300):
        while True:
            found = (await api.get(f"/v1/platform/requests/{request_id}")).json().get("data", [])
            if found and found[0]["usage"] is not None:
                usage: dict[str, Any] = found[0]["usage"]
                return usage
            await asyncio.sleep(0.2)
