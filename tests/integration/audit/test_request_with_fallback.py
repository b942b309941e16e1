"""A request with a retry and a fallback, and one that the breaker did not send, found through a real gateway."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, PROVIDER_KEY, Platform
from tests.support.commands.command_line import cli
from tests.support.gateway.chat_routes import ChatRoute, over_client_routes
from tests.support.gateway.database import connected
from tests.support.gateway.http import until
from tests.support.gateway.process import Gateway, write_catalog

FAILING = "sim-server-error@one-request"


@pytest.fixture(scope="module")
def falling_back(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway whose model fails at its first provider, whose breaker opens after the first request."""
    directory = tmp_path_factory.mktemp("one-request")
    config = write_catalog(
        directory / "platform.yaml",
        {name: {"base_url": simulator.base_url} for name in ("primary", "secondary")},
        {"two": [("primary", FAILING), ("secondary", "sim-ok")]},
        rate_limits=GENEROUS,
        policies={
            "retry": {"max_attempts": 2},
            "breaker": {"failure_ratio": 0.5, "minimum_calls": 2, "window_seconds": 600, "open_seconds": 600},
        },
    )
    environment = {
        **platform.environment, "PLATFORM_CONFIG_FILE": str(config), "PLATFORM_DEFAULT_MODEL": "two"
    }  # fmt: skip
    with Gateway(environment, directory) as running:
        yield running


async def stored(client: httpx.AsyncClient, gateway: Gateway, key: str, identifier: str) -> Mapping[str, Any]:
    """The only request with this id, once it is stored."""
    found: list[Mapping[str, Any]] = []
    async with asyncio.timeout(300):
        # The usage record can be stored before the decision.
        while not (found and found[0]["access"]):
            response = await client.get(
                f"{gateway.base_url}/v1/platform/requests/{identifier}", headers={"X-API-Key": key}
            )
            found = response.json().get("data", [])
            await asyncio.sleep(0.05)
    [request] = found
    return request


async def test_retry_fallback_and_open_breaker_are_found(
    falling_back: Gateway, platform: Platform, client: httpx.AsyncClient, admin_key: str
) -> None:
    key = await asyncio.to_thread(platform.key, "platform:chat")
    body = {"prompt": "canary-prompt", "stream": True}
    trace_ids = []
    for _ in range(2):
        response = await client.post(falling_back.chat_url, headers={"X-API-Key": key}, json=body)
        assert response.status_code == 200, response.text
        trace_ids.append(response.headers["traceparent"].split("-")[1])
    first, second = [await stored(client, falling_back, admin_key, trace_id) for trace_id in trace_ids]

    failed = ("primary", FAILING, "provider_error", 500)
    shown = [
        [(each["provider"], each["upstream_model"], each["outcome"], each["status"]) for each in request["attempts"]]
        for request in (first, second)
    ]
    succeeded = ("secondary", "sim-ok", "ok", 200)
    assert shown[0] == [failed, failed, succeeded]
    assert shown[1] == [("primary", FAILING, "breaker_open", None), succeeded]
    assert [hop["name"] for hop in first["hops"] if hop["name"] in ("retry_wait", "fallback")] == [
        "retry_wait",
        "fallback",
    ]
    assert first["attempts"][0]["message"]
    sent = [each["upstream_request_id"] for each in first["attempts"]]
    assert len(set(sent)) == 3
    assert first["usage"]["upstream_request_id"] == sent[-1]
    assert first["access"]["model"] == "two"
    for canary in ("canary-prompt", key, PROVIDER_KEY):
        assert canary not in json.dumps([first, second])

    page = await asyncio.to_thread(cli, platform.environment, "request", trace_ids[1])
    assert "not sent, breaker open" in page.out
    async with connected(platform.environment["PLATFORM_DATABASE_URL"]) as connection:
        stored_id = await connection.fetchval(
            "SELECT upstream_request_id FROM usage_records WHERE trace_id = $1", trace_ids[0]
        )
    assert stored_id == sent[-1]

    def line() -> dict[str, Any] | None:
        lines = [each for each in falling_back.log_lines() if each.get("event") == "request"]
        return next((each for each in lines if each.get("trace_id") == trace_ids[0]), None)

    await until(lambda: line() is not None)
    assert (line() or {})["upstream_request_id"] == sent[-1]


@over_client_routes
async def test_request_of_every_format_is_found(
    falling_back: Gateway, platform: Platform, client: httpx.AsyncClient, admin_key: str, route: ChatRoute
) -> None:
    key = await asyncio.to_thread(platform.key, "platform:chat")
    headers = {"X-API-Key": key, **route.headers}
    url = f"{falling_back.base_url}{route.path}"
    response = await client.post(url, headers=headers, json=route.body(model="two", stream=True))
    assert response.status_code == 200, response.text
    trace_id = response.headers["traceparent"].split("-")[1]
    found = await stored(client, falling_back, admin_key, trace_id)
    assert (found["access"]["route"], found["access"]["model"]) == (route.path, "two")
    assert found["attempts"][-1]["outcome"] == "ok"
    assert found["usage"]["upstream_request_id"] == found["attempts"][-1]["upstream_request_id"]
    page = await asyncio.to_thread(cli, platform.environment, "request", trace_id)
    assert f"POST {route.path}" in page.out
