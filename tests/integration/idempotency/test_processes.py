"""Several gateways and processes with one key, workers that die, and a Redis that fails."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway.http import chat_request, connect, metric, until, workers
from tests.support.gateway.process import Gateway
from tests.support.idempotency.caller import (
    LEASE_SECONDS,
    OUTCOMES,
    PLATFORM,
    Caller,
    error_code,
    limited_caller,
    provider_calls,
    request_body,
    send_without_key,
)
from tests.support.servers.valkey import own_server
from tests.support.timing.responsive_time import responsive_time


async def test_other_process_replays_the_response(
    caller: Caller, second: Gateway, sim: ProviderSimulator, fresh: str
) -> None:
    first = await caller.send(fresh)
    again = await caller.at(second).send(fresh)
    assert again.content == first.content
    assert provider_calls(sim) == 1


async def test_concurrent_requests_with_key_make_one_provider_call(
    caller: Caller, second: Gateway, sim: ProviderSimulator, fresh: str
) -> None:
    for round_number in range(3):
        sim.reset()
        key, body = f"{fresh}-{round_number}", request_body(PLATFORM, model="sim-slow-stream")
        answers = await asyncio.gather(
            *(c.send(key, body=body) for c in (caller, caller.at(second)) for _ in range(10))
        )
        assert sorted({answer.status_code for answer in answers}) == [200, 409]
        assert [answer.status_code for answer in answers].count(200) == 1
        assert provider_calls(sim) == 1


async def test_key_of_killed_worker_is_free_after_its_lease(
    caller: Caller, second: Gateway, sim: ProviderSimulator, fresh: str
) -> None:
    """The lease of a living request is renewed for as long as it takes, and that of a dead one ends."""
    body = request_body(PLATFORM, model="sim-hang")
    async with connect(second) as connection:
        await connection.send(_chat(caller.key, body, fresh))
        await sim.wait_for_outcome("sim-hang", "open")
        await asyncio.sleep(LEASE_SECONDS + 0.5)
        assert error_code(await caller.send(fresh, body=body)) == "idempotency_in_flight"
        for worker in workers(second):
            os.kill(worker, signal.SIGKILL)
        killed_at = time.monotonic()
        while (response := await caller.send(fresh)).status_code == 422:  # held, for another body
            assert time.monotonic() - killed_at < LEASE_SECONDS + 60
            await asyncio.sleep(0.1)
        assert response.status_code == 200


def _chat(key: str, body: Mapping[str, Any], idempotency_key: str) -> bytes:
    """A whole chat request as bytes; its body is the same as that of Caller.send."""
    request = chat_request(key, body, f"raw-{idempotency_key}")
    return request.replace(b"\r\n", f"\r\nIdempotency-Key: {idempotency_key}\r\n".encode(), 1)


@pytest.fixture
def freezable(platform: Platform, tmp_path: Path) -> Iterator[tuple[Gateway, EmbeddedValkey]]:
    """A gateway with a separate Redis."""
    server = EmbeddedValkey(tmp_path)
    server.start()
    try:
        environment = {**platform.environment, "PLATFORM_REDIS_URL": server.url, "PLATFORM_REDIS_TIMEOUT_MS": "500"}
        with Gateway(environment, tmp_path) as gateway:
            yield gateway, server
    finally:
        server.resume()
        server.stop()


async def test_frozen_redis_refuses_only_requests_with_key(
    freezable: tuple[Gateway, EmbeddedValkey], caller: Caller, sim: ProviderSimulator, fresh: str
) -> None:
    gateway, server = freezable
    caller = caller.at(gateway)
    first = await caller.send(fresh)
    slow = asyncio.create_task(caller.send(f"{fresh}-slow", body=request_body(PLATFORM, model="sim-slow-stream")))
    await sim.wait_for_outcome("sim-slow-stream", "open")
    server.pause()
    await send_without_key(caller)  # the limiter's first wait
    calls = provider_calls(sim)
    for key in (fresh, f"{fresh}-new"):
        async with responsive_time() as spent:
            refused = await caller.send(key)
        assert (refused.status_code, error_code(refused)) == (503, "idempotency_unavailable")
        assert refused.headers["retry-after"] == "1"
        assert spent.seconds < 10, "0.5 for Redis, and nothing else"
    assert provider_calls(sim) == calls, "nothing was done"
    await send_without_key(caller)
    assert (await slow).status_code == 200, "an answer is not withheld because it cannot be kept"

    server.resume()
    async with asyncio.timeout(LEASE_SECONDS + 60):
        while (again := await caller.send(fresh)).status_code == 503:
            await asyncio.sleep(0.1)
        assert again.content == first.content
        # The refused request may have left its command in the frozen server's queue; its claim is released.
        while (new := await caller.send(f"{fresh}-new")).status_code != 200:
            await asyncio.sleep(0.1)
    assert "idempotency-replayed" not in new.headers

    def events() -> list[str]:
        return [line["event"] for line in gateway.log_lines()]

    await until(lambda: "idempotency_recovered" in events())  # the log is written a moment later
    assert events().count("idempotency_unavailable") == 1
    assert events().count("idempotency_recovered") == 1
    assert metric(gateway.metrics(), OUTCOMES, outcome="unavailable") >= 3


async def test_separate_redis_stores_all_responses(
    platform: Platform, valkey: EmbeddedValkey, caller: Caller, sim: ProviderSimulator, fresh: str, tmp_path: Path
) -> None:
    """And while it is full or down, limits are as exact as before."""
    with own_server("--maxmemory", "16mb", "--maxmemory-policy", "noeviction") as server:
        environment = {**platform.environment, "PLATFORM_IDEMPOTENCY_REDIS_URL": server.url}
        with Gateway(environment, tmp_path) as gateway:
            own = caller.at(gateway)
            async with Redis.from_url(server.url) as kept, Redis.from_url(valkey.url) as limits:
                before = len([name async for name in limits.scan_iter("fbp:idem:*")])
                first = await own.send(fresh)
                assert (await own.send(fresh)).content == first.content
                assert [name async for name in kept.scan_iter("*")] != []
                assert [name async for name in kept.scan_iter("fbp:rl:*")] == []
                assert len([name async for name in limits.scan_iter("fbp:idem:*")]) == before
            server.stop()
            refused = await own.send(fresh)
            assert (refused.status_code, error_code(refused)) == (503, "idempotency_unavailable")
            poor = await limited_caller(own, platform, 2)
            plain = {"Authorization": f"Bearer {poor.key}"}
            asked = [
                await caller.client.post(gateway.chat_url, headers=plain, json=request_body(PLATFORM)) for _ in range(3)
            ]
            assert [answer.status_code for answer in asked] == [200, 200, 429]
            assert metric(gateway.metrics(), "platform_limiter_degraded") == 0
    assert provider_calls(sim) == 3
