"""Rate limits through HTTP: exact across workers, told in headers, and still there without Redis."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway import Gateway, write_config
from tests.support.http import chat_request, connect, metric, workers

RULES = {
    "rules": [
        {"name": "key-rpm", "scope": "key", "limit": 60, "window_seconds": 60},
        {"name": "owner-rpm", "scope": "owner", "limit": 70, "window_seconds": 60},
    ]
}


@pytest.fixture(scope="module")
def limited_environment(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """60 requests a minute for a key, 70 for an owner."""
    config = write_config(tmp_path_factory.mktemp("limits") / "platform.yaml", simulator.base_url, rate_limits=RULES)
    return {**platform.environment, "PLATFORM_CONFIG_FILE": str(config)}


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
    with socket.socket() as bound:  # bound, not listening: nobody else can open the port meanwhile
        bound.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{bound.getsockname()[1]}/0"
        if request.param == "a missing socket":
            url = f"unix://{directory / 'none.sock'}"
        with Gateway({**limited_environment, "PLATFORM_REDIS_URL": url}, directory) as running:
            yield running


async def ask(client: httpx.AsyncClient, gateway: Gateway, key: str) -> httpx.Response:
    return await client.post(gateway.chat_url, headers={"Authorization": f"Bearer {key}"}, json={"prompt": "Hello"})


def _check_denial(response: httpx.Response, rule: str, limit: int, scope: str) -> None:
    assert response.status_code == 429
    error = response.json()["error"]
    assert error["code"] == "rate_limited"
    assert rule in error["message"]
    assert error["details"] == [f"{rule}: {limit} requests in any 60 s, counted by {scope}"]
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


async def test_sixty_pass_and_the_sixty_first_does_not(
    limited: Gateway, client: httpx.AsyncClient, platform: Platform, simulator: ProviderSimulator
) -> None:
    key = platform.key(owner="one by one")
    before = simulator.count("sim-ok")
    responses = [await ask(client, limited, key) for _ in range(61)]

    assert [response.status_code for response in responses] == [200] * 60 + [429]
    remaining = [int(response.headers["x-ratelimit-remaining-requests"]) for response in responses]
    assert remaining == [*reversed(range(60)), 0]
    assert [response.headers["x-ratelimit-limit-requests"] for response in responses] == ["60"] * 61
    assert all("retry-after" not in response.headers for response in responses[:60])
    _check_denial(responses[60], "key-rpm", 60, "key")
    assert simulator.count("sim-ok") - before == 60, "a refused request reached the provider"


async def test_a_stream_counts_like_any_other(limited: Gateway, client: httpx.AsyncClient, platform: Platform) -> None:
    headers = {"Authorization": f"Bearer {platform.key(owner='streams')}"}
    responses = [
        await client.post(limited.chat_url, headers=headers, json={"prompt": "Hello", "stream": True})
        for _ in range(61)
    ]
    assert [response.status_code for response in responses] == [200] * 60 + [429]
    assert responses[60].headers["content-type"] == "application/json"


async def test_a_refusal_charges_no_other_rule(limited: Gateway, client: httpx.AsyncClient, platform: Platform) -> None:
    """The owner's 70 are 60 of one key and 10 of another, however often the first was refused."""
    first, second = platform.key(owner="shared"), platform.key(owner="shared")
    statuses = [(await ask(client, limited, first)).status_code for _ in range(90)]
    assert (statuses.count(200), statuses.count(429)) == (60, 30)

    responses = [await ask(client, limited, second) for _ in range(11)]
    assert [response.status_code for response in responses] == [200] * 10 + [429]
    _check_denial(responses[10], "owner-rpm", 70, "owner")


async def test_nothing_is_charged_for_requests_that_were_refused_before(
    limited: Gateway, client: httpx.AsyncClient, platform: Platform
) -> None:
    headers = {"Authorization": f"Bearer {platform.key(owner='mistakes', models=['sim-ok'])}"}
    bad: tuple[dict[str, object], ...] = ({"prompt": 1}, {"prompt": "x", "model": "sim-none"}, {})
    for body in bad * 30:
        response = await client.post(limited.chat_url, headers=headers, json=body)
        assert response.status_code in (404, 422)
    response = await client.post(limited.chat_url, headers=headers, json={"prompt": "Hello"})
    assert response.headers["x-ratelimit-remaining-requests"] == "59"


async def test_two_workers_let_exactly_sixty_of_a_rush_pass(
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


async def test_without_redis_this_process_limits_by_itself(
    without_redis: Gateway, client: httpx.AsyncClient, platform: Platform
) -> None:
    key = platform.key()
    started = time.monotonic()
    first = await ask(client, without_redis, key)
    assert time.monotonic() - started < 0.3
    assert first.status_code == 200
    assert first.headers["x-ratelimit-remaining-requests"] == "59"

    others = [await ask(client, without_redis, key) for _ in range(60)]

    assert [response.status_code for response in others] == [200] * 59 + [429]
    _check_denial(others[59], "key-rpm", 60, "key")
    text = without_redis.metrics()
    assert metric(text, "platform_limiter_degraded") == 1.0
    assert metric(text, "platform_limiter_total", decision="denied", mode="local") == 1.0
    told = [line for line in without_redis.log_lines() if line.get("event") == "limiter_degraded"]
    assert len(told) == 1
    assert told[0]["level"] == "warning"
