"""Idempotency-Key over real sockets: one provider call for each key, whatever comes in between."""

import asyncio
import itertools
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway.http import access_line, chat_request, connect, metric, metric_becomes, until, workers
from tests.support.gateway.process import Gateway
from tests.support.servers.valkey import own_server
from tests.support.timing.responsive_time import responsive_time

PLATFORM, OPENAI, EMBEDDINGS = "/v1/platform/chat", "/v1/chat/completions", "/v1/embeddings"
OUTCOMES = "platform_idempotency_total"
LEASE_SECONDS = 6.0

_numbers = itertools.count(1)


def _ask(route: str, text: str = "Hello", **more: Any) -> dict[str, Any]:
    match route:
        case "/v1/platform/chat":
            return {"prompt": text, **more}
        case "/v1/embeddings":
            return {"input": text, **more}
        case _:
            return {"messages": [{"role": "user", "content": text}], **more}


@dataclass(frozen=True)
class Caller:
    """Sends requests with an Idempotency-Key to one gateway."""

    client: httpx.AsyncClient
    gateway: Gateway
    key: str

    async def send(
        self, idempotency_key: str, route: str = PLATFORM, body: Mapping[str, Any] | None = None, **headers: str
    ) -> httpx.Response:
        return await self.client.post(
            f"{self.gateway.base_url}{route}",
            headers={
                "Authorization": f"Bearer {self.key}",
                "Content-Type": "application/json",
                "Idempotency-Key": idempotency_key,
                **headers,
            },
            content=json.dumps(_ask(route) if body is None else body),
        )

    def at(self, gateway: Gateway) -> "Caller":
        """The same caller at another gateway."""
        return Caller(self.client, gateway, self.key)


@pytest.fixture(scope="module")
def everything_key(platform: Platform) -> str:
    return platform.key("platform:chat", "platform:embeddings")


@pytest.fixture
def caller(client: httpx.AsyncClient, gateway: Gateway, everything_key: str) -> Caller:
    return Caller(client, gateway, everything_key)


@pytest.fixture
def fresh() -> str:
    """A key that nobody used."""
    return f"order-{next(_numbers)}"


@pytest.fixture
async def sim(simulator: ProviderSimulator) -> ProviderSimulator:
    """Nothing counted. What other tests' clients left behind waits while a gateway starts, since the simulator lives in
    this loop; it is let in first."""
    counted = -1
    while counted != _total(simulator):
        counted = _total(simulator)
        await asyncio.sleep(0.1)
    simulator.reset()
    return simulator


def _total(sim: ProviderSimulator) -> int:
    return sum(counts["total"] for counts in sim.stats().values())


def _code(response: httpx.Response) -> Any:
    return response.json()["error"]["code"]


# --- the answer again


@pytest.mark.parametrize("route", [PLATFORM, OPENAI, EMBEDDINGS])
async def test_the_same_request_gets_the_same_answer_and_the_provider_one_call(
    caller: Caller, sim: ProviderSimulator, fresh: str, route: str
) -> None:
    first = await caller.send(fresh, route)
    again = await caller.send(fresh, route, None, **{"X-Request-ID": f"again-{fresh}"})

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert _total(sim) == 1
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    own = {"content-type", "x-platform-provider", "x-platform-model", "x-platform-attempts"}
    assert {name: again.headers[name] for name in own} == {name: first.headers[name] for name in own}
    assert again.headers["x-request-id"] == f"again-{fresh}"
    assert again.headers["traceparent"] != first.headers["traceparent"]
    assert "ratelimit" in first.headers
    left = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in (first, again)]
    assert left[1] < left[0], "a replay is a request"
    line = await access_line(caller.gateway, f"again-{fresh}")
    assert (line["status"], line["decision"], line["reason"], line["provider"]) == (
        200, "allow", "idempotent_replay", None,
    )  # fmt: skip


@pytest.mark.parametrize("route", [PLATFORM, OPENAI])
async def test_a_stream_is_given_again_event_by_event(
    caller: Caller, sim: ProviderSimulator, fresh: str, route: str
) -> None:
    body = _ask(route, "One two three", stream=True)
    first = await caller.send(fresh, route, body)
    again = await caller.send(fresh, route, body)

    assert first.headers["content-type"] == again.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert again.content == first.content
    assert first.text.count("\n\n") > 3
    assert again.headers["cache-control"] == first.headers["cache-control"]
    assert again.headers["idempotency-replayed"] == "true"
    assert _total(sim) == 1


async def test_a_complete_stream_is_kept_although_its_client_leaves_with_the_last_event(
    caller: Caller, sim: ProviderSimulator, fresh: str
) -> None:
    """Clients hang up at `[DONE]`: by then the answer is kept."""
    body = _ask(OPENAI, stream=True)
    headers = {
        "Authorization": f"Bearer {caller.key}", "Idempotency-Key": fresh, "Content-Type": "application/json",
    }  # fmt: skip
    url = f"{caller.gateway.base_url}{OPENAI}"
    text = ""
    async with caller.client.stream("POST", url, headers=headers, content=json.dumps(body)) as response:
        async for piece in response.aiter_text():
            text += piece
            if "[DONE]" in text:
                break
    again = await caller.send(fresh, OPENAI, body)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.text == text
    assert _total(sim) == 1


async def test_what_the_provider_refused_is_an_answer_too(caller: Caller, sim: ProviderSimulator, fresh: str) -> None:
    body = _ask(PLATFORM, model="sim-context-length")
    first = await caller.send(fresh, body=body)
    again = await caller.send(fresh, body=body)
    assert (first.status_code, again.status_code) == (400, 400)
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert _total(sim) == 1


async def test_a_key_is_of_one_caller_and_one_route(
    caller: Caller, sim: ProviderSimulator, fresh: str, platform: Platform
) -> None:
    other = Caller(caller.client, caller.gateway, platform.key("platform:chat"))
    answers = [await caller.send(fresh), await other.send(fresh), await caller.send(fresh, OPENAI)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert all("idempotency-replayed" not in answer.headers for answer in answers)
    assert _total(sim) == 3


async def test_another_process_gives_the_answer_too(
    caller: Caller, second: Gateway, sim: ProviderSimulator, fresh: str
) -> None:
    first = await caller.send(fresh)
    again = await caller.at(second).send(fresh)
    assert again.content == first.content
    assert _total(sim) == 1


# --- not the answer again


@pytest.mark.parametrize("route", [PLATFORM, OPENAI])
async def test_another_body_is_refused(caller: Caller, sim: ProviderSimulator, fresh: str, route: str) -> None:
    assert (await caller.send(fresh, route)).status_code == 200
    other = await caller.send(fresh, route, _ask(route, "Something else"))
    assert (other.status_code, _code(other)) == (422, "validation_error")
    assert "another body" in other.json()["error"]["message"]
    if route == OPENAI:
        assert other.json()["error"]["param"] == "Idempotency-Key"
    assert (await caller.send(fresh, route)).headers["idempotency-replayed"] == "true"
    assert _total(sim) == 1


async def test_while_the_first_is_in_flight_others_wait(caller: Caller, sim: ProviderSimulator, fresh: str) -> None:
    body = _ask(PLATFORM, model="sim-slow-stream")
    running = asyncio.create_task(caller.send(fresh, body=body))
    await sim.wait_for_outcome("sim-slow-stream", "open")
    meanwhile = await caller.send(fresh, body=body)
    assert (meanwhile.status_code, _code(meanwhile)) == (409, "idempotency_in_flight")
    assert int(meanwhile.headers["retry-after"]) >= 1
    wrong = await caller.send(fresh, body=_ask(PLATFORM, "Other"))
    assert wrong.status_code == 422
    first = await running
    assert (await caller.send(fresh, body=body)).content == first.content
    assert _total(sim) == 1


@pytest.mark.parametrize("value", ["", "x" * 256, "caf\u00e9", "a\u00ffb"])
async def test_what_is_no_key_is_refused(caller: Caller, sim: ProviderSimulator, value: str) -> None:
    response = await caller.client.post(
        caller.gateway.chat_url,
        headers=[
            (b"Authorization", f"Bearer {caller.key}".encode()),
            (b"Idempotency-Key", value.encode("latin-1")),
        ],
        json=_ask(PLATFORM),
    )
    assert (response.status_code, _code(response)) == (422, "validation_error")
    assert "1 to 255 printable ASCII" in response.json()["error"]["message"]
    assert _total(sim) == 0


async def test_two_different_keys_at_once_are_refused(caller: Caller) -> None:
    headers = [("Authorization", f"Bearer {caller.key}"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = await caller.client.post(caller.gateway.chat_url, headers=headers, json=_ask(PLATFORM))
    assert response.status_code == 422


async def test_the_longest_key_works(caller: Caller, fresh: str) -> None:
    key = f"{fresh} {{}} ~!\"'".ljust(255, "z")
    first = await caller.send(key)
    assert (await caller.send(key)).content == first.content


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"prompt": "Hello", "colour": "blue"}, 422),
        ({"prompt": "Hello", "model": "no-such-model"}, 404),
        ({"prompt": "Hello", "model": "sim-server-error"}, 502),
        ({"prompt": "Hello", "model": "sim-rate-limited"}, 503),
    ],
)
async def test_what_was_not_answered_is_not_kept(
    caller: Caller, sim: ProviderSimulator, fresh: str, body: dict[str, Any], status: int
) -> None:
    for _ in range(2):
        response = await caller.send(fresh, body=body)
        assert response.status_code == status
        assert "idempotency-replayed" not in response.headers
    if status >= 500:
        calls = _total(sim)
        assert calls >= 2
        assert calls % 2 == 0
    # And the key is free for the mended request.
    assert (await caller.send(fresh)).status_code == 200


async def test_a_request_that_was_refused_for_its_credentials_takes_no_key(
    caller: Caller, sim: ProviderSimulator, fresh: str
) -> None:
    stranger = Caller(caller.client, caller.gateway, "fbp_test_wrong")
    assert (await stranger.send(fresh)).status_code == 401
    assert (await caller.send(fresh)).status_code == 200


@pytest.mark.parametrize("route", [PLATFORM, OPENAI])
async def test_a_stream_that_fails_in_the_middle_is_not_kept(
    caller: Caller, sim: ProviderSimulator, fresh: str, route: str
) -> None:
    body = _ask(route, "Hello, world", model="sim-stream-drop", stream=True)
    for calls in (1, 2):
        response = await caller.send(fresh, route, body)
        assert response.status_code == 200
        assert "error" in response.text
        assert "idempotency-replayed" not in response.headers
        assert _total(sim) == calls


# --- limits, sizes, records


async def _limited(caller: Caller, platform: Platform, requests: int) -> Caller:
    """Another caller, that may send so many requests a minute."""
    made = await caller.client.post(
        f"{caller.gateway.base_url}/v1/platform/api-keys",
        headers={"Authorization": f"Bearer {platform.key('platform:*')}"},
        json={"name": "poor", "owner": "tests", "scopes": ["platform:chat"], "limits": {"key-rpm": requests}},
    )
    return Caller(caller.client, caller.gateway, made.json()["key"])


async def test_replay_counts_as_a_request(
    caller: Caller, sim: ProviderSimulator, fresh: str, platform: Platform
) -> None:
    poor = await _limited(caller, platform, 3)
    first = await poor.send(fresh)
    assert [int((await poor.send(fresh)).headers["x-ratelimit-remaining-requests"]) for _ in range(2)] == [1, 0]
    for key in (fresh, f"{fresh}-b"):
        refused = await poor.send(key)
        assert (refused.status_code, _code(refused)) == (429, "rate_limited")
        assert refused.headers["retry-after"]
        assert first.text not in refused.text
    assert _total(sim) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_replay_ends_with_the_access_to_its_model(
    caller: Caller, sim: ProviderSimulator, fresh: str, platform: Platform, stream: bool
) -> None:
    record, key = platform.new_key("platform:chat", models=["sim-ok", "sim-slow-stream"])
    own = Caller(caller.client, caller.gateway, key)
    body = _ask(PLATFORM, stream=stream)  # the default model, which is sim-ok
    assert (await own.send(fresh, body=body)).status_code == 200
    assert (await own.send(fresh, body=body)).headers["idempotency-replayed"] == "true"
    admin = {"Authorization": f"Bearer {platform.key('platform:*')}"}
    url = f"{caller.gateway.base_url}/v1/platform/api-keys/{record.key_id}"
    changed = await caller.client.patch(url, headers=admin, json={"allowed_models": ["sim-slow-stream"]})
    assert changed.status_code == 200
    refused = await own.send(fresh, body=body)
    assert (refused.status_code, _code(refused)) == (403, "model_not_allowed")
    assert _total(sim) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_above_the_bound_is_not_kept_and_the_work_not_done_twice(
    caller: Caller, second: Gateway, sim: ProviderSimulator, fresh: str, stream: bool
) -> None:
    body = _ask(PLATFORM, "long " * 600, stream=stream)
    small = caller.at(second)
    first = await small.send(fresh, body=body)
    assert first.status_code == 200
    assert len(first.content) > 1024
    again = await small.send(fresh, body=body)
    assert (again.status_code, _code(again)) == (409, "conflict")
    assert "too large" in again.json()["error"]["message"]
    assert _total(sim) == 1


async def test_full_quota_lets_requests_work_without_keeping_them(
    caller: Caller, second: Gateway, sim: ProviderSimulator, fresh: str, platform: Platform
) -> None:
    """The second gateway's quota is 64 KiB: 56 for responses, and what is left for remembering that work was done."""
    greedy = Caller(caller.client, second, platform.key("platform:chat", owner=f"greedy-{fresh}"))
    kept = worked = 0
    for number in range(200):
        first = await greedy.send(f"{fresh}-{number}", body=_ask(PLATFORM))
        if first.status_code == 429:
            break
        assert first.status_code == 200
        worked += 1
        again = await greedy.send(f"{fresh}-{number}", body=_ask(PLATFORM))
        assert (again.status_code, again.headers.get("idempotency-replayed")) in ((200, "true"), (409, None))
        kept += again.status_code == 200
    assert 0 < kept < worked < 200
    assert _total(sim) == worked, "no work was done twice, and none that was refused"
    assert (first.status_code, _code(first)) == (429, "rate_limited")
    assert int(first.headers["retry-after"]) <= 60
    counted = second.metrics()
    assert metric(counted, OUTCOMES, outcome="over_quota") >= worked - kept
    assert metric(counted, OUTCOMES, outcome="refused") >= 1
    plain = {"Authorization": f"Bearer {greedy.key}"}
    assert (await caller.client.post(second.chat_url, headers=plain, json=_ask(PLATFORM))).status_code == 200


async def test_nothing_of_the_prompt_is_kept_and_all_of_it_ends(
    caller: Caller, valkey: EmbeddedValkey, fresh: str
) -> None:
    body = _ask(PLATFORM, "echo nothing of this: PROMPT-CANARY", model="sim-hang")
    running = asyncio.create_task(caller.send(fresh, body=body))
    async with Redis.from_url(valkey.url) as redis:
        await asyncio.sleep(0.3)
        records = [name async for name in redis.scan_iter("fbp:idem:*")]
        ages = [await redis.pttl(name) for name in records]
        assert records
        assert all(0 < age <= 86_400_000 for age in ages)
        held = [name for name in records if await redis.hexists(name, "owner")]
        assert len(held) == 1
        for name in held:
            assert fresh.encode() not in name
            assert await redis.pttl(name) <= LEASE_SECONDS * 1000
            assert "PROMPT-CANARY" not in str(await redis.hgetall(name))
        await running
        assert not await redis.exists(*held), "504: the key is free again"


async def test_outcomes_are_counted(caller: Caller, fresh: str) -> None:
    def count(outcome: str) -> float:
        return metric(caller.gateway.metrics(), OUTCOMES, outcome=outcome)

    before = {name: count(name) for name in ("started", "stored", "replayed", "mismatch", "released")}
    await caller.send(fresh)
    await caller.send(fresh)
    await caller.send(fresh, body=_ask(PLATFORM, "Other"))
    await caller.send(f"{fresh}-b", body=_ask(PLATFORM, model="sim-server-error"))
    await metric_becomes(caller.gateway, before["released"] + 1, OUTCOMES, outcome="released")
    grown = {name: count(name) - value for name, value in before.items()}
    assert grown == {"started": 2, "stored": 1, "replayed": 1, "mismatch": 1, "released": 1}


async def test_without_the_header_redis_is_not_asked(caller: Caller, valkey: EmbeddedValkey) -> None:
    async with Redis.from_url(valkey.url) as redis:
        await _plain(caller)
        before = await redis.info("commandstats")
        for _ in range(5):
            await _plain(caller)
        after = await redis.info("commandstats")
    calls = [stats.get("cmdstat_evalsha", {"calls": 0})["calls"] for stats in (before, after)]
    assert calls[1] - calls[0] == 5, "the limiter's question, one for each request"


async def _plain(caller: Caller) -> None:
    headers = {"Authorization": f"Bearer {caller.key}"}
    response = await caller.client.post(caller.gateway.chat_url, headers=headers, json=_ask(PLATFORM))
    assert response.status_code == 200


# --- several processes, and those that die


@pytest.fixture(scope="module")
def second(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Another gateway beside the session's, with two workers; it keeps small answers only."""
    environment = {
        **platform.environment,
        "PLATFORM_IDEMPOTENCY_MAX_BYTES": "1024",
        "PLATFORM_IDEMPOTENCY_KEY_QUOTA_BYTES": "65536",
        "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS": "60",
    }
    with Gateway(environment, tmp_path_factory.mktemp("second"), workers=2) as running:
        yield running


async def test_of_many_at_once_over_two_gateways_one_reaches_the_provider(
    caller: Caller, second: Gateway, sim: ProviderSimulator, fresh: str
) -> None:
    for round_number in range(3):
        sim.reset()
        key, body = f"{fresh}-{round_number}", _ask(PLATFORM, model="sim-slow-stream")
        answers = await asyncio.gather(
            *(c.send(key, body=body) for c in (caller, caller.at(second)) for _ in range(10))
        )
        assert sorted({answer.status_code for answer in answers}) == [200, 409]
        assert [answer.status_code for answer in answers].count(200) == 1
        assert _total(sim) == 1


async def test_the_key_of_a_killed_worker_is_free_within_seconds(
    caller: Caller, second: Gateway, sim: ProviderSimulator, fresh: str
) -> None:
    """The lease of a living request is renewed for as long as it takes, and that of a dead one ends."""
    body = _ask(PLATFORM, model="sim-hang")
    async with connect(second) as connection:
        await connection.send(_chat(caller.key, body, fresh))
        await sim.wait_for_outcome("sim-hang", "open")
        await asyncio.sleep(LEASE_SECONDS + 0.5)
        assert _code(await caller.send(fresh, body=body)) == "idempotency_in_flight"
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


# --- Redis away


@pytest.fixture
def freezable(platform: Platform, tmp_path: Path) -> Iterator[tuple[Gateway, EmbeddedValkey]]:
    """A gateway with a Redis of its own."""
    server = EmbeddedValkey(tmp_path)
    server.start()
    try:
        environment = {**platform.environment, "PLATFORM_REDIS_URL": server.url, "PLATFORM_REDIS_TIMEOUT_MS": "500"}
        with Gateway(environment, tmp_path) as gateway:
            yield gateway, server
    finally:
        server.resume()
        server.stop()


async def test_while_redis_is_frozen_keys_are_refused_at_once_and_other_requests_go_on(
    freezable: tuple[Gateway, EmbeddedValkey], caller: Caller, sim: ProviderSimulator, fresh: str
) -> None:
    gateway, server = freezable
    caller = caller.at(gateway)
    first = await caller.send(fresh)
    slow = asyncio.create_task(caller.send(f"{fresh}-slow", body=_ask(PLATFORM, model="sim-slow-stream")))
    await sim.wait_for_outcome("sim-slow-stream", "open")
    server.pause()
    await _plain(caller)  # the limiter's first wait
    calls = _total(sim)
    for key in (fresh, f"{fresh}-new"):
        async with responsive_time() as spent:
            refused = await caller.send(key)
        assert (refused.status_code, _code(refused)) == (503, "idempotency_unavailable")
        assert refused.headers["retry-after"] == "1"
        assert spent.seconds < 10, "0.5 for Redis, and nothing else"
    assert _total(sim) == calls, "nothing was done"
    await _plain(caller)
    assert (await slow).status_code == 200, "an answer is not withheld because it cannot be kept"

    server.resume()
    async with asyncio.timeout(LEASE_SECONDS + 60):
        while (again := await caller.send(fresh)).status_code == 503:
            await asyncio.sleep(0.1)
        assert again.content == first.content
        # The refused request may have left its question in the frozen server's queue: it is taken back.
        while (new := await caller.send(f"{fresh}-new")).status_code != 200:
            await asyncio.sleep(0.1)
    assert "idempotency-replayed" not in new.headers

    def events() -> list[str]:
        return [line["event"] for line in gateway.log_lines()]

    await until(lambda: "idempotency_recovered" in events())  # the log is written a moment later
    assert events().count("idempotency_unavailable") == 1
    assert events().count("idempotency_recovered") == 1
    assert metric(gateway.metrics(), OUTCOMES, outcome="unavailable") >= 3


async def test_redis_of_its_own_holds_all_kept_responses(
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
            assert (refused.status_code, _code(refused)) == (503, "idempotency_unavailable")
            poor = await _limited(own, platform, 2)
            plain = {"Authorization": f"Bearer {poor.key}"}
            asked = [await caller.client.post(gateway.chat_url, headers=plain, json=_ask(PLATFORM)) for _ in range(3)]
            assert [answer.status_code for answer in asked] == [200, 200, 429]
            assert metric(gateway.metrics(), "platform_limiter_degraded") == 0
    assert _total(sim) == 3
