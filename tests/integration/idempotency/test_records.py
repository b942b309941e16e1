"""What a stored response costs, how large it may be, and what its record contains."""

import asyncio

import pytest
from redis.asyncio import Redis

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway.http import metric, metric_becomes
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


async def test_replay_counts_as_a_request(
    caller: Caller, sim: ProviderSimulator, fresh: str, platform: Platform
) -> None:
    poor = await limited_caller(caller, platform, 3)
    first = await poor.send(fresh)
    assert [int((await poor.send(fresh)).headers["x-ratelimit-remaining-requests"]) for _ in range(2)] == [1, 0]
    for key in (fresh, f"{fresh}-b"):
        refused = await poor.send(key)
        assert (refused.status_code, error_code(refused)) == (429, "rate_limited")
        assert refused.headers["retry-after"]
        assert first.text not in refused.text
    assert provider_calls(sim) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_replay_is_refused_without_access_to_model(
    caller: Caller, sim: ProviderSimulator, fresh: str, platform: Platform, stream: bool
) -> None:
    record, key = platform.new_key("platform:chat", models=["sim-ok", "sim-slow-stream"])
    own = Caller(caller.client, caller.gateway, key)
    body = request_body(PLATFORM, stream=stream)  # the default model, which is sim-ok
    assert (await own.send(fresh, body=body)).status_code == 200
    assert (await own.send(fresh, body=body)).headers["idempotency-replayed"] == "true"
    admin = {"Authorization": f"Bearer {platform.key('platform:*')}"}
    url = f"{caller.gateway.base_url}/v1/platform/api-keys/{record.key_id}"
    changed = await caller.client.patch(url, headers=admin, json={"allowed_models": ["sim-slow-stream"]})
    assert changed.status_code == 200
    refused = await own.send(fresh, body=body)
    assert (refused.status_code, error_code(refused)) == (403, "model_not_allowed")
    assert provider_calls(sim) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_too_large_response_is_not_stored_nor_repeated(
    caller: Caller, second: Gateway, sim: ProviderSimulator, fresh: str, stream: bool
) -> None:
    body = request_body(PLATFORM, "long " * 600, stream=stream)
    small = caller.at(second)
    first = await small.send(fresh, body=body)
    assert first.status_code == 200
    assert len(first.content) > 1024
    again = await small.send(fresh, body=body)
    assert (again.status_code, error_code(again)) == (409, "conflict")
    assert "too large" in again.json()["error"]["message"]
    assert provider_calls(sim) == 1


async def test_full_quota_runs_requests_without_storing(
    caller: Caller, second: Gateway, sim: ProviderSimulator, fresh: str, platform: Platform
) -> None:
    """The second gateway's quota is 64 KiB: 56 for responses, and what is left for remembering that work was done."""
    greedy = Caller(caller.client, second, platform.key("platform:chat", owner=f"greedy-{fresh}"))
    kept = worked = 0
    for number in range(200):
        first = await greedy.send(f"{fresh}-{number}", body=request_body(PLATFORM))
        if first.status_code == 429:
            break
        assert first.status_code == 200
        worked += 1
        again = await greedy.send(f"{fresh}-{number}", body=request_body(PLATFORM))
        assert (again.status_code, again.headers.get("idempotency-replayed")) in ((200, "true"), (409, None))
        kept += again.status_code == 200
    assert 0 < kept < worked < 200
    assert provider_calls(sim) == worked, "no work was done twice, and none that was refused"
    assert (first.status_code, error_code(first)) == (429, "rate_limited")
    assert int(first.headers["retry-after"]) <= 60
    counted = second.metrics()
    assert metric(counted, OUTCOMES, outcome="over_quota") >= worked - kept
    assert metric(counted, OUTCOMES, outcome="refused") >= 1
    plain = {"Authorization": f"Bearer {greedy.key}"}
    assert (await caller.client.post(second.chat_url, headers=plain, json=request_body(PLATFORM))).status_code == 200


async def test_record_contains_no_prompt_and_expires(caller: Caller, valkey: EmbeddedValkey, fresh: str) -> None:
    body = request_body(PLATFORM, "echo nothing of this: PROMPT-CANARY", model="sim-hang")
    running = asyncio.create_task(caller.send(fresh, body=body))
    async with Redis.from_url(valkey.url) as redis:
        held: list[bytes] = []
        async with asyncio.timeout(300):
            while not held:
                await asyncio.sleep(0.02)
                records = [name async for name in redis.scan_iter("fbp:idem:*")]
                held = [name for name in records if await redis.hexists(name, "owner")]
        assert len(held) == 1
        ages = [await redis.pttl(name) for name in records]
        assert all(0 < age <= 86_400_000 for age in ages)
        for name in held:
            assert fresh.encode() not in name
            assert await redis.pttl(name) <= LEASE_SECONDS * 1000
            assert "PROMPT-CANARY" not in str(await redis.hgetall(name))
        await running
        assert not await redis.exists(*held), "504: the key is free again"


async def test_idempotency_outcomes_are_counted(caller: Caller, fresh: str) -> None:
    def count(outcome: str) -> float:
        return metric(caller.gateway.metrics(), OUTCOMES, outcome=outcome)

    before = {name: count(name) for name in ("started", "stored", "replayed", "mismatch", "released")}
    await caller.send(fresh)
    await caller.send(fresh)
    await caller.send(fresh, body=request_body(PLATFORM, "Other"))
    await caller.send(f"{fresh}-b", body=request_body(PLATFORM, model="sim-server-error"))
    await metric_becomes(caller.gateway, before["released"] + 1, OUTCOMES, outcome="released")
    grown = {name: count(name) - value for name, value in before.items()}
    assert grown == {"started": 2, "stored": 1, "replayed": 1, "mismatch": 1, "released": 1}


async def test_request_without_key_sends_no_command(caller: Caller, valkey: EmbeddedValkey) -> None:
    async with Redis.from_url(valkey.url) as redis:
        await send_without_key(caller)
        before = await redis.info("commandstats")
        for _ in range(5):
            await send_without_key(caller)
        after = await redis.info("commandstats")
    calls = [stats.get("cmdstat_evalsha", {"calls": 0})["calls"] for stats in (before, after)]
    assert calls[1] - calls[0] == 5, "the limiter's question, one for each request"
