"""A client that leaves and asks again with its Idempotency-Key gets the first request's response: one provider call,
one bill, and what the work holds meanwhile is accounted for.

The provider is one that responds when the test lets it, so no test depends on how fast the machine is.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from openai import AsyncOpenAI

from tests.conftest import GENEROUS, Platform
from tests.support.gateway.chat_routes import CHAT, MESSAGES, PLATFORM, RESPONSES, ChatRoute, over_routes
from tests.support.gateway.http import chat_request, connect, metric, until
from tests.support.gateway.http import metric_becomes as becomes
from tests.support.gateway.in_process.generated import OUTPUT_TOKENS
from tests.support.gateway.process import Gateway, write_catalog
from tests.support.ledger.usage.records import BilledKey, usage_of
from tests.support.providers.failover.faulty_provider import TEXT, WORDS, Call, FaultyProvider

DETACHED = "platform_idempotency_detached"
IN_FLIGHT = "platform_http_requests_in_flight"
TOTAL_SECONDS = 8
HELD, SILENT = "held", "silent"
"""Models whose responses wait for the test: a stream of the one begins before that, of the other it does not."""
NATIVE = {RESPONSES: "openai-responses/held", MESSAGES: "anthropic/held"}
"""The same model at a provider of the route's format, for routes whose format is not that of `HELD`."""


class Gate:
    """What the provider's responses wait for."""

    def __init__(self) -> None:
        self.open = asyncio.Event()


_gate = Gate()


async def _held(call: Call) -> None:
    if call.stream:
        await call.begin_stream()
        await call.words(0, 5)
    await _held_until_open(call)
    if call.stream:
        await call.words(5, len(WORDS))
        await call.finish()
    else:
        await call.good()


async def _silent(call: Call) -> None:
    await _held_until_open(call)
    await call.good()


async def _held_until_open(call: Call) -> None:
    opened, gone = (asyncio.ensure_future(event.wait()) for event in (_gate.open, call.attempt.client_gone))
    await asyncio.wait([opened, gone], return_when=asyncio.FIRST_COMPLETED)
    opened.cancel()
    gone.cancel()
    if call.attempt.client_gone.is_set():
        raise ConnectionResetError


@pytest.fixture(scope="module")
async def running_provider() -> AsyncIterator[FaultyProvider]:
    """A provider that waits for the gate."""
    async with FaultyProvider({HELD: _held, SILENT: _silent}) as running:
        yield running


@pytest.fixture
def provider(running_provider: FaultyProvider) -> Iterator[FaultyProvider]:
    """The provider with its gate closed and no memory; the gate is opened after the test, so that nothing hangs."""
    running_provider.reset()
    _gate.open.clear()
    yield running_provider
    _gate.open.set()


def environment_of(platform: Platform, provider: FaultyProvider, directory: Path, **more: str) -> dict[str, str]:
    config = write_catalog(
        directory / "platform.yaml",
        {
            "faulty": {"base_url": provider.base_url, "max_concurrent": 4, "max_waiting": 0},
            **{
                wire: {"wire_format": wire, "base_url": provider.url_of(wire)}
                for wire in ("openai-responses", "anthropic")
            },
        },
        {
            HELD: [("faulty", HELD)],
            SILENT: [("faulty", SILENT)],
            "healthy": [("faulty", "healthy")],
            **{name: [(name.partition("/")[0], HELD)] for name in NATIVE.values()},
        },
        rate_limits={
            "rules": [*GENEROUS["rules"], {"name": "at-once", "scope": "key", "unit": "concurrent", "limit": 1}]
        },
        policies={"retry": {"max_attempts": 1}, "breaker": {"minimum_calls": 100_000}},
    )
    return {
        **platform.environment,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_DEFAULT_MODEL": "healthy",
        "PLATFORM_MAX_CONCURRENT_REQUESTS": "8",
        "PLATFORM_STREAM_KEEP_ALIVE_SECONDS": "0.3",
        **more,
    }


@pytest.fixture(scope="module")
def first_gateway(
    platform: Platform, running_provider: FaultyProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway that takes eight requests at once, and one of each key."""
    directory = tmp_path_factory.mktemp("first")
    with Gateway(environment_of(platform, running_provider, directory), directory) as running:
        yield running


@pytest.fixture(scope="module")
def second_gateway(
    platform: Platform, running_provider: FaultyProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Another one beside it, whose calls have a short deadline."""
    directory = tmp_path_factory.mktemp("second")
    deadline = {"PLATFORM_PROVIDER_TOTAL_TIMEOUT_SECONDS": str(TOTAL_SECONDS)}
    own = environment_of(platform, running_provider, directory, **deadline)
    with Gateway(own, directory) as running:
        yield running


@pytest.fixture
def key(platform: Platform) -> BilledKey:
    record, text = platform.new_key("platform:chat")
    return BilledKey(record.key_id, text)


def body_of(stream: bool, route: ChatRoute = PLATFORM, model: str = HELD) -> dict[str, Any]:
    return route.body("Sixty words, please.", model=model, stream=stream)


def raw(key: BilledKey, idempotency_key: str, body: dict[str, Any], route: ChatRoute) -> bytes:
    request = chat_request(key.key, body, f"leaves-{idempotency_key}", route.path)
    return request.replace(b"\r\n", f"\r\nIdempotency-Key: {idempotency_key}\r\n".encode(), 1)


async def ask_and_leave(
    gateway: Gateway, provider: FaultyProvider, key: BilledKey, *, stream: bool = False, route: ChatRoute = PLATFORM,
    model: str = HELD, idempotency_key: str = "one", goes_on: bool = True,
) -> None:  # fmt: skip
    """Send a request, leave once the provider has it, and wait until the gateway has noticed."""
    before = metric(gateway.metrics(), DETACHED)
    calls = len(provider.of(HELD))
    async with connect(gateway) as connection:
        await connection.send(raw(key, idempotency_key, body_of(stream, route, model), route))
        await until(lambda: len(provider.of(HELD)) == calls + 1)
        if stream:
            await connection.reader.readuntil(b"word4")
        connection.writer.transport.abort()
    if goes_on:
        await becomes(gateway, before + 1, DETACHED)


async def again(
    client: httpx.AsyncClient, gateway: Gateway, key: BilledKey, *, stream: bool = False, route: ChatRoute = PLATFORM,
    model: str = HELD, idempotency_key: str = "one",
) -> httpx.Response:  # fmt: skip
    content = json.dumps(body_of(stream, route, model))
    headers = {**key.headers, "Idempotency-Key": idempotency_key}
    return await client.post(gateway.base_url + route.path, headers=headers, content=content)


def text_of(response: httpx.Response, route: ChatRoute, stream: bool) -> str:
    if stream:
        assert route.is_complete(response.content), response.text[-500:]
        return route.stream_text(response.content)
    return route.text_of(response.json())


@over_routes
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same process", "another process"])
async def test_retry_after_disconnect_gets_first_response(
    elsewhere: bool, stream: bool, route: ChatRoute, first_gateway: Gateway, second_gateway: Gateway,
    platform: Platform, provider: FaultyProvider, client: httpx.AsyncClient, key: BilledKey,
) -> None:  # fmt: skip
    """11b: the retry waits while the first request's work continues; one provider call, one bill. The provider of a
    retry at the same process speaks the route's format, that of a retry elsewhere another one."""
    model = HELD if elsewhere else NATIVE.get(route, HELD)
    await ask_and_leave(first_gateway, provider, key, stream=stream, route=route, model=model)
    gateway = second_gateway if elsewhere else first_gateway
    asking = asyncio.create_task(again(client, gateway, key, stream=stream, route=route, model=model))
    done, _ = await asyncio.wait([asking], timeout=0.5)
    assert not done, "there is no response yet"
    _gate.open.set()
    response = await asking
    assert response.status_code == 200, response.text
    assert response.headers["idempotency-replayed"] == "true"
    assert text_of(response, route, stream) == TEXT, response.text[:2000]
    assert len(provider.attempts) == 1
    [row] = await usage_of(platform, key)
    tokens = 60 if model == HELD else OUTPUT_TOKENS
    assert (row["outcome"], row["attempts"], row["completion_tokens"], row["estimated"]) == ("ok", 1, tokens, False)
    assert row["route"] == route.path
    await becomes(first_gateway, 0, DETACHED)


async def test_openai_client_retry_gets_first_response(
    first_gateway: Gateway, provider: FaultyProvider, key: BilledKey
) -> None:
    """Its timeout is far below the time that the work takes; each try waits, and one of them gets it."""
    client = AsyncOpenAI(api_key=key.key, base_url=f"{first_gateway.base_url}/v1", timeout=1.0, max_retries=20)
    async with client:
        asking = asyncio.create_task(
            client.chat.completions.create(
                model=HELD, messages=[{"role": "user", "content": "hi"}], extra_headers={"Idempotency-Key": "sdk"}
            )
        )
        await until(lambda: metric(first_gateway.metrics(), "platform_idempotency_total", outcome="waited") >= 1)
        _gate.open.set()
        completion = await asking
    assert completion.choices[0].message.content == TEXT
    assert len(provider.attempts) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@over_routes
async def test_retry_while_client_is_connected_gets_409(
    route: ChatRoute, stream: bool, first_gateway: Gateway, provider: FaultyProvider, client: httpx.AsyncClient,
    key: BilledKey,
) -> None:  # fmt: skip
    model = NATIVE.get(route, HELD)
    async with connect(first_gateway) as connection:
        await connection.send(raw(key, "one", body_of(stream, route, model), route))
        await until(lambda: len(provider.of(HELD)) == 1)
        response = await again(client, first_gateway, key, stream=stream, route=route, model=model)
        assert (response.status_code, route.code_of(response.json())) == (409, "idempotency_in_flight")
        assert (response.headers["retry-after"], response.headers["x-should-retry"]) == ("1", "true")
        _gate.open.set()
        if stream:
            await connection.reader.readuntil(b"\r\n0\r\n\r\n")
        else:
            assert (await connection.answer())[0] == 200
    replayed = await again(client, first_gateway, key, stream=stream, route=route, model=model)
    assert text_of(replayed, route, stream) == TEXT


async def test_detached_work_ends_at_its_deadline(
    second_gateway: Gateway, provider: FaultyProvider, client: httpx.AsyncClient, key: BilledKey
) -> None:
    """The request that waited for it then runs."""
    await ask_and_leave(second_gateway, provider, key)
    [attempt] = provider.attempts
    asking = asyncio.create_task(again(client, second_gateway, key))
    async with asyncio.timeout(300):
        await attempt.client_gone.wait()
    await until(lambda: len(provider.attempts) == 2)
    _gate.open.set()
    response = await asking
    assert response.status_code == 200
    assert "idempotency-replayed" not in response.headers


async def test_detached_work_keeps_its_reservations(
    first_gateway: Gateway, provider: FaultyProvider, client: httpx.AsyncClient, key: BilledKey, platform: Platform
) -> None:
    """The provider's slot, the key's place under its limit, and a place among the process's requests."""
    await ask_and_leave(first_gateway, provider, key)
    assert metric(first_gateway.metrics(), "platform_provider_slots_in_use", provider="faulty") == 1
    other = await again(client, first_gateway, key, idempotency_key="two")
    assert (other.status_code, "at-once" in other.text) == (429, True)
    _gate.open.set()
    await becomes(first_gateway, 0, DETACHED)
    await becomes(first_gateway, 0, "platform_provider_slots_in_use", provider="faulty")
    async with asyncio.timeout(300):  # the place goes back over the network
        while (await again(client, first_gateway, key, idempotency_key="two")).status_code == 429:
            await asyncio.sleep(0.1)
    assert len(provider.attempts) == 2


async def test_detached_work_above_the_limit_ends_with_client(
    first_gateway: Gateway, provider: FaultyProvider, platform: Platform
) -> None:
    """Two are a quarter of eight; what others left must not use up the process."""
    for _ in range(2):
        record, text = platform.new_key("platform:chat")
        await ask_and_leave(first_gateway, provider, BilledKey(record.key_id, text))
    record, text = platform.new_key("platform:chat")
    await ask_and_leave(first_gateway, provider, BilledKey(record.key_id, text), goes_on=False)
    async with asyncio.timeout(300):
        await provider.attempts[2].client_gone.wait()
    assert not any(attempt.client_gone.is_set() for attempt in provider.attempts[:2])
    _gate.open.set()
    await becomes(first_gateway, 0, DETACHED)


async def test_disconnect_without_key_cancels_the_work(
    first_gateway: Gateway, provider: FaultyProvider, key: BilledKey
) -> None:
    async with connect(first_gateway) as connection:
        await connection.send(chat_request(key.key, body_of(False), "no-key"))
        await until(lambda: len(provider.of(HELD)) == 1)
        connection.writer.transport.abort()
    async with asyncio.timeout(300):
        await provider.attempts[0].client_gone.wait()


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_shutdown_waits_for_detached_work(
    stream: bool, platform: Platform, provider: FaultyProvider, first_gateway: Gateway, tmp_path: Path,
    client: httpx.AsyncClient, key: BilledKey,
) -> None:  # fmt: skip
    own = environment_of(platform, provider, tmp_path, PLATFORM_SHUTDOWN_GRACE_SECONDS="60")
    with Gateway(own, tmp_path) as gateway:
        await ask_and_leave(gateway, provider, key, stream=stream)
        stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
        await asyncio.sleep(1)
        assert not stopping.done()
        _gate.open.set()
        assert await stopping == 0
    response = await again(client, first_gateway, key, stream=stream)
    assert response.headers["idempotency-replayed"] == "true"
    assert text_of(response, PLATFORM, stream) == TEXT
    assert len(provider.attempts) == 1


async def test_shutdown_ends_detached_work_after_grace_period(
    platform: Platform, provider: FaultyProvider, first_gateway: Gateway, tmp_path: Path,
    client: httpx.AsyncClient, key: BilledKey,
) -> None:  # fmt: skip
    """The key is free then, and what was done is billed as estimated."""
    own = environment_of(platform, provider, tmp_path, PLATFORM_SHUTDOWN_GRACE_SECONDS="1")
    with Gateway(own, tmp_path) as gateway:
        await ask_and_leave(gateway, provider, key)
        assert await asyncio.to_thread(gateway.stop) == 0
    assert provider.attempts[0].client_gone.is_set()
    _gate.open.set()
    response = await again(client, first_gateway, key)
    assert response.status_code == 200
    assert "idempotency-replayed" not in response.headers
    rows: list[asyncpg.Record] = await usage_of(platform, key, 2)
    assert [(row["outcome"], row["estimated"]) for row in rows] == [("client_closed", True), ("ok", False)]


async def test_stream_with_early_head_continues_after_disconnect(
    first_gateway: Gateway, provider: FaultyProvider, client: httpx.AsyncClient, key: BilledKey
) -> None:
    """The client leaves after the head and a comment; further comments have no receiver."""
    body = body_of(True, CHAT, SILENT)
    async with connect(first_gateway) as connection:
        await connection.send(raw(key, "one", body, CHAT))
        await connection.reader.readuntil(b": keep-alive")
        connection.writer.transport.abort()
    await becomes(first_gateway, 1, DETACHED)
    await asyncio.sleep(1)
    _gate.open.set()
    await becomes(first_gateway, 0, DETACHED)
    response = await client.post(
        first_gateway.base_url + CHAT.path,
        headers={**key.headers, "Idempotency-Key": "one"},
        content=json.dumps(body),
    )
    assert response.headers["idempotency-replayed"] == "true"
    assert text_of(response, CHAT, stream=True) == TEXT
    assert response.text.endswith("data: [DONE]\n\n")
    assert ": keep-alive" not in response.text, "comments are of the moment"
    assert len(provider.attempts) == 1
    assert not [line for line in first_gateway.log_lines() if line["level"] == "error"]


@over_routes
async def test_started_stream_is_stored_completely_after_disconnect(
    route: ChatRoute, first_gateway: Gateway, provider: FaultyProvider, client: httpx.AsyncClient, key: BilledKey
) -> None:
    """The client has the beginning; the whole response is kept for it."""
    model = NATIVE.get(route, HELD)
    async with connect(first_gateway) as connection:
        await connection.send(raw(key, "one", body_of(True, route, model), route))
        await connection.reader.readuntil(b"word4")
        connection.writer.transport.abort()
    await becomes(first_gateway, 1, DETACHED)
    _gate.open.set()
    await becomes(first_gateway, 0, DETACHED)
    response = await again(client, first_gateway, key, stream=True, route=route, model=model)
    assert text_of(response, route, stream=True) == TEXT
    assert len(provider.attempts) == 1
