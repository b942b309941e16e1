"""Rate limits through HTTP: exact across workers, shown in headers, and enforced without Redis."""

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway.chat_routes import PLATFORM, ROUTES, ChatRoute, over_routes
from tests.support.gateway.http import chat_request, connect, log_line, metric, until, workers
from tests.support.gateway.process import Gateway, write_config
from tests.support.servers.valkey import own_server
from tests.support.timing.responsive_time import responsive_time

RULES = {
    "rules": [
        {"name": "key-rpm", "scope": "key", "limit": 60, "window_seconds": 60},
        {"name": "owner-rpm", "scope": "owner", "limit": 70, "window_seconds": 60},
        {"name": "key-rps", "scope": "key", "window_seconds": 1},
    ]
}


@pytest.fixture(scope="module")
def limited_environment(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """60 requests a minute for a key, 70 for an owner. Redis has a long timeout, for busy machines."""
    config = write_config(tmp_path_factory.mktemp("limits") / "platform.yaml", simulator.base_url, rate_limits=RULES)
    return {**platform.environment, "PLATFORM_CONFIG_FILE": str(config), "PLATFORM_REDIS_TIMEOUT_MS": "5000"}


@pytest.fixture(scope="module")
def limited(limited_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two workers that count together."""
    with Gateway(limited_environment, tmp_path_factory.mktemp("limited"), workers=2) as running:
        yield running


@pytest.fixture(scope="module", params=["a closed port", "a missing socket"])
def without_redis(
    request: pytest.FixtureRequest, limited_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """One worker that finds no Redis."""
    directory = tmp_path_factory.mktemp("without-redis")
    with socket.socket() as bound:  # bound, not listening: no other process can open the port meanwhile
        bound.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{bound.getsockname()[1]}/0"
        if request.param == "a missing socket":
            url = f"unix://{directory / 'none.sock'}"
        environment = {**limited_environment, "PLATFORM_REDIS_URL": url, "PLATFORM_REDIS_TIMEOUT_MS": "5000"}
        with Gateway(environment, directory) as running:
            yield running


async def ask(
    client: httpx.AsyncClient, gateway: Gateway, key: str, route: ChatRoute = PLATFORM, **fields: Any
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", **route.headers}
    return await client.post(gateway.base_url + route.path, headers=headers, json=route.body("Hello", **fields))


def _check_denial(response: httpx.Response, rule: str, limit: int, scope: str, route: ChatRoute = PLATFORM) -> None:
    assert response.status_code == 429
    error = response.json()["error"]
    assert route.code_of(response.json()) == "rate_limited"
    assert rule in error["message"]
    detail = f"{rule}: {limit} requests in any 60 s, counted by {scope}"
    if route is PLATFORM:
        assert error["details"] == [detail]
    else:
        assert error["type"] == "rate_limit_error"
        assert detail in error["message"]
    (written,) = response.headers.get_list("retry-after")
    wait = int(written)
    assert 1 <= wait <= 61
    assert f"{wait} s" in error["message"]
    assert response.headers["ratelimit-policy"] == f'"{rule}";q={limit};w=60'
    state = re.fullmatch(rf'"{rule}";r=0;t=(\d+)', response.headers["ratelimit"])
    assert state is not None
    assert int(state[1]) <= wait
    assert response.headers["x-ratelimit-limit-requests"] == str(limit)
    assert response.headers["x-ratelimit-remaining-requests"] == "0"
    assert re.fullmatch(r"1m[\d.]+s|[\d.]+m?s", response.headers["x-ratelimit-reset-requests"])


@over_routes
async def test_request_above_the_limit_is_refused(
    limited: Gateway, client: httpx.AsyncClient, platform: Platform, simulator: ProviderSimulator, route: ChatRoute
) -> None:
    key = platform.key(owner=f"one by one, {route.name}")
    before = simulator.count("sim-ok")
    responses = [await ask(client, limited, key, route) for _ in range(61)]

    assert [response.status_code for response in responses] == [200] * 60 + [429]
    remaining = [int(response.headers["x-ratelimit-remaining-requests"]) for response in responses]
    assert remaining == [*reversed(range(60)), 0]
    assert [response.headers["x-ratelimit-limit-requests"] for response in responses] == ["60"] * 61
    assert all("retry-after" not in response.headers for response in responses[:60])
    _check_denial(responses[60], "key-rpm", 60, "key", route)
    assert simulator.count("sim-ok") - before == 60, "a refused request reached the provider"


async def test_streams_of_all_routes_count_together(
    limited: Gateway, client: httpx.AsyncClient, platform: Platform
) -> None:
    """The refusal of a stream is JSON, in the shape of its route."""
    key = platform.key(owner="streams")
    responses = [await ask(client, limited, key, route, stream=True) for _ in range(16) for route in ROUTES]
    assert [response.status_code for response in responses] == [200] * 60 + [429] * 4
    for response, route in zip(responses[60:], ROUTES, strict=True):
        assert response.headers["content-type"] == "application/json"
        _check_denial(response, "key-rpm", 60, "key", route)


async def test_denial_charges_no_other_rule(limited: Gateway, client: httpx.AsyncClient, platform: Platform) -> None:
    """The owner's 70 are 60 of one key and 10 of another, however often the first was refused."""
    first, second = platform.key(owner="shared"), platform.key(owner="shared")
    statuses = [(await ask(client, limited, first)).status_code for _ in range(90)]
    assert (statuses.count(200), statuses.count(429)) == (60, 30)

    responses = [await ask(client, limited, second) for _ in range(11)]
    assert [response.status_code for response in responses] == [200] * 10 + [429]
    _check_denial(responses[10], "owner-rpm", 70, "owner")


async def test_requests_refused_earlier_are_not_charged(
    limited: Gateway, client: httpx.AsyncClient, platform: Platform
) -> None:
    headers = {"Authorization": f"Bearer {platform.key(owner='mistakes', models=['sim-ok'])}"}
    bad: tuple[dict[str, object], ...] = ({"prompt": 1}, {"prompt": "x", "model": "sim-none"}, {})
    for body in bad * 30:
        response = await client.post(limited.chat_url, headers=headers, json=body)
        assert response.status_code in (404, 422)
    response = await client.post(limited.chat_url, headers=headers, json={"prompt": "Hello"})
    assert response.headers["x-ratelimit-remaining-requests"] == "59"


async def test_two_workers_admit_exactly_the_limit(
    limited: Gateway, client: httpx.AsyncClient, platform: Platform, simulator: ProviderSimulator
) -> None:
    assert len(workers(limited)) == 2
    key, other = platform.key(owner="a rush"), platform.key(owner="another")
    before = simulator.count("sim-ok")

    async with AsyncExitStack() as stack:
        # All are open before the first one asks, so that both workers have their part and none comes late.
        connections = [await stack.enter_async_context(connect(limited)) for _ in range(120)]
        for number, connection in enumerate(connections):
            connection.writer.write(chat_request(key, {"prompt": "Hello"}, f"rush-{number}"))
        statuses = [(await connection.answer())[0] for connection in connections]
    assert (statuses.count(200), statuses.count(429)) == (60, 60)
    assert (await ask(client, limited, other)).status_code == 200
    assert simulator.count("sim-ok") - before == 61


async def test_process_limits_alone_without_redis(
    without_redis: Gateway, client: httpx.AsyncClient, platform: Platform
) -> None:
    key = platform.key()
    async with responsive_time() as spent:
        first = await ask(client, without_redis, key)
    assert spent.seconds < 4, "the timeout of 5 s was waited for"
    assert first.status_code == 200
    assert first.headers["x-ratelimit-remaining-requests"] == "59"

    others = [await ask(client, without_redis, key, ROUTES[number % len(ROUTES)]) for number in range(60)]

    assert [response.status_code for response in others] == [200] * 59 + [429]
    _check_denial(others[59], "key-rpm", 60, "key", ROUTES[-1])
    text = without_redis.metrics()
    assert metric(text, "platform_limiter_degraded") == 1.0
    assert metric(text, "platform_limiter_total", decision="denied", mode="local") == 1.0
    assert (await log_line(without_redis, "limiter_degraded"))["level"] == "warning"
    assert [line["event"] for line in without_redis.log_lines()].count("limiter_degraded") == 1


CLOSED = {
    "rules": [
        {"name": "strict", "scope": "key", "limit": 60, "window_seconds": 60, "on_outage": "closed",
         "routes": ["/v1/platform/chat"]},
        {"name": "key-rpm", "scope": "key", "limit": 100, "window_seconds": 60},
        {"name": "key-usd", "scope": "key", "unit": "cost_usd", "limit": 5, "window": "day", "time_zone": "UTC",
         "on_no_price": "warn"},
        {"name": "watched", "scope": "owner", "limit": 1, "window_seconds": 60, "mode": "shadow"},
        {"name": "managers", "scope": "key", "limit": 7, "window_seconds": 60, "routes": ["/v1/platform/api-keys"]},
    ]
}  # fmt: skip


@pytest.fixture
def freezable(
    platform: Platform, simulator: ProviderSimulator, tmp_path: Path
) -> Iterator[tuple[Gateway, EmbeddedValkey]]:
    """A gateway with a rule that refuses without Redis, and its separate Redis."""
    config = write_config(tmp_path / "platform.yaml", simulator.base_url, rate_limits=CLOSED)
    with own_server() as server:
        changed = {"PLATFORM_CONFIG_FILE": str(config), "PLATFORM_REDIS_URL": server.url}
        with Gateway({**platform.environment, **changed}, tmp_path) as running:
            yield running, server


async def test_closed_rule_refuses_without_redis(
    freezable: tuple[Gateway, EmbeddedValkey], client: httpx.AsyncClient, platform: Platform
) -> None:
    gateway, server = freezable
    record, key = platform.new_key("platform:chat", owner="closed")
    headers = {"Authorization": f"Bearer {key}"}
    assert [(await ask(client, gateway, key)).status_code for _ in range(3)] == [200] * 3
    assert metric(gateway.metrics(), "platform_limiter_denials_total", rule="watched", mode="shadow") == 2

    for _ in range(2):  # reading charges nothing
        answer = await client.get(f"{gateway.base_url}/v1/platform/limits", headers=headers)
        assert answer.status_code == 200
        told = {each["rule"]: each for each in answer.json()["data"]}
        assert (told["strict"]["remaining"], told["key-rpm"]["remaining"]) == (57, 97)
        assert 0 < told["strict"]["reset_seconds"] <= 61
        assert (told["key-usd"]["limit"], told["key-usd"]["window"], told["key-usd"]["time_zone"]) == (5, "day", "UTC")
        assert (told["watched"]["mode"], told["watched"]["remaining"]) == ("shadow", 0)
        assert told["managers"]["why_not"] == "only on /v1/platform/api-keys"
        assert answer.headers["x-ratelimit-remaining-requests"] == "57"
    for query, status in (("route=/v1/x", 422), ("model=sim-none", 404)):
        answer = await client.get(f"{gateway.base_url}/v1/platform/limits?{query}", headers=headers)
        assert answer.status_code == status
    explained = await asyncio.to_thread(cli, gateway, "limits", "explain", "--key", record.key_id)
    assert "+  strict: 60 requests in any 60 s, counted by key; the config file's limit" in explained
    assert f"counter fbp:rl:{{{record.key_id}}}:strict:requests:60" in explained
    assert "57 left" in explained
    assert "~  watched" in explained
    assert "managers                 does not apply: only on /v1/platform/api-keys" in explained

    server.pause()
    refused = await ask(client, gateway, key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "limiter_unavailable")
    assert refused.headers["retry-after"] == "1"
    assert (await client.get(f"{gateway.base_url}/livez")).status_code == 200
    ready = await client.get(f"{gateway.base_url}/readyz")
    assert ready.status_code == 503
    redis = next(check for check in ready.json()["checks"] if check["name"] == "redis")
    assert (redis["ok"], redis["required"]) == (False, True)
    assert metric(gateway.metrics(), "platform_limiter_closed_total", rule="strict") == 1
    degraded = await client.get(f"{gateway.base_url}/v1/platform/limits", headers=headers)
    assert degraded.status_code == 200
    explained = await asyncio.to_thread(cli, gateway, "limits", "explain", "--key", record.key_id)
    assert "Redis does not respond" in explained
    server.resume()
    await until(lambda: metric(gateway.metrics(), "platform_limiter_degraded") == 0)
    assert (await ask(client, gateway, key)).status_code == 200
    assert (await client.get(f"{gateway.base_url}/readyz")).status_code == 200


def cli(gateway: Gateway, *arguments: str) -> str:
    """What a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "apps.platform_cli", *arguments],
        env=dict(gateway.environment), capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return done.stdout


async def test_waiting_for_retry_after_is_enough(
    limited: Gateway, client: httpx.AsyncClient, platform: Platform
) -> None:
    """A key's own limit, and a client that does what Retry-After says: its next request succeeds."""
    record, key = platform.new_key(owner="patient")
    await asyncio.to_thread(cli, limited, "keys", "update", record.key_id, "--limit", "key-rps=2")
    statuses = [(await ask(client, limited, key)).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = await ask(client, limited, key)
    wait, reset = int(refused.headers["retry-after"]), re.findall(r"t=(\d+)", refused.headers["ratelimit"])
    assert wait >= int(reset[0])
    await asyncio.sleep(wait)
    assert (await ask(client, limited, key)).status_code == 200


async def test_key_budget_may_be_a_fraction(
    freezable: tuple[Gateway, EmbeddedValkey], client: httpx.AsyncClient, platform: Platform
) -> None:
    gateway, _ = freezable
    headers = {"Authorization": f"Bearer {platform.key('platform:*')}"}
    body: dict[str, object] = {"name": "b", "owner": "o", "scopes": ["platform:chat"], "limits": {"key-usd": 0.25}}
    url = f"{gateway.base_url}/v1/platform/api-keys"
    made = await client.post(url, headers=headers, json=body)
    assert made.status_code == 201
    assert made.json()["api_key"]["limits"] == {"key-usd": 0.25}
    own = await client.get(
        f"{gateway.base_url}/v1/platform/limits", headers={"Authorization": f"Bearer {made.json()['key']}"}
    )
    [budget] = [each for each in own.json()["data"] if each["rule"] == "key-usd"]
    assert (budget["limit"], budget["remaining"], budget["own_limit"]) == (0.25, 0.25, True)
    for limits in ({"key-usd": 0}, {"key-rpm": 1.5}, {"key-rpm": True}, {"key-usd": "1"}):
        assert (await client.post(url, headers=headers, json=body | {"limits": limits})).status_code == 422
