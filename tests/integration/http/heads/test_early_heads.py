"""Streams whose first event takes long, and streams that begin with nothing: over raw sockets, as hops and old clients
see them (docs/adr/0026)."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, Platform
from tests.support.gateway.http import OPENAI_CHAT, PLATFORM_CHAT, access_line, chat_request, connect, metric, until
from tests.support.gateway.process import Gateway, write_catalog
from tests.support.providers.wires import WIRES, simulated_providers

KEEP_ALIVE = ": keep-alive\n"
BEAT_SECONDS = 0.3
IDLE_SECONDS = 1.5
ROUTES = (PLATFORM_CHAT, OPENAI_CHAT)


@pytest.fixture(scope="module")
def early(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway that sends a stream's head after 0.3 s, with an idle timeout of providers of 1.5 s."""
    directory = tmp_path_factory.mktemp("early")
    good = ("openai", "sim-ok@early-second")
    config = write_catalog(
        directory / "platform.yaml",
        simulated_providers(simulator),
        {
            "good": [good],
            "slow": [("openai", "sim-delay-1000@early")],
            "silent": [("openai", "sim-hang@early")],
            "silent-then-good": [("openai", "sim-hang@early"), good],
            **{f"{wire}-role": [(wire, f"sim-role-then-error@early-{wire}")] for wire in WIRES},
            **{f"{wire}-role-then-good": [(wire, f"sim-role-then-error@early-{wire}"), good] for wire in WIRES},
        },
        rate_limits=GENEROUS,
        policies={
            "retry": {"max_attempts": 2, "base_seconds": 0.01, "max_seconds": 0.02},
            "breaker": {"minimum_calls": 100_000},
        },
    )
    environment = {
        **platform.environment,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_DEFAULT_MODEL": "good",
        "PLATFORM_STREAM_KEEP_ALIVE_SECONDS": str(BEAT_SECONDS),
        "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS": str(IDLE_SECONDS),
    }
    with Gateway(environment, directory) as running:
        yield running


async def ask(client: httpx.AsyncClient, gateway: Gateway, key: str, path: str, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    return await client.post(gateway.base_url + path, headers={"Authorization": f"Bearer {key}"}, json=body)


def said(text: str) -> str:
    """Return the text of a stream of either contract."""
    parts = []
    for line in text.splitlines():
        if line.startswith("data: {"):
            data = json.loads(line[6:])
            delta = data["choices"][0]["delta"] if data.get("choices") else data
            parts.append(delta.get("content") or "")
    return "".join(parts)


def events_of_an_old_go_client(text: str) -> list[str]:
    """How openai-go before v3.44 reads a stream: an empty line ends an event, also one without data, whose data it then
    fails to parse as JSON."""
    events, data = [], ""
    for line in text.split("\n")[:-1]:
        if line == "":
            events.append(data)
            data = ""
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            data += value.removeprefix(" ") if name == "data" else ""
    return events


@pytest.mark.parametrize("path", ROUTES)
async def test_slow_stream_gets_its_head_and_comments_early(
    early: Gateway, chat_key: str, simulator: ProviderSimulator, path: str
) -> None:
    """Kinds 12 and 13, byte by byte: the head and a comment line alone, while the provider has sent nothing."""
    before = metric(early.metrics(), "platform_stream_early_heads_total")
    asked = {"model": "slow", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    async with connect(early) as connection:
        await connection.send(chat_request(chat_key, asked, f"early-{path.rpartition('/')[2]}", path))
        head = await connection.reader.readuntil(b"\r\n\r\n")
        first = await connection.reader.readuntil(b": keep-alive\n\r\n")
        assert simulator.stats()["sim-delay-1000@early"]["open"] == 1, "the provider has not answered"
        rest = await connection.reader.readuntil(b"0\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-type: text/event-stream; charset=utf-8" in head
    assert b"x-request-id: early-" in head
    assert first == b"d\r\n: keep-alive\n\r\n", "one chunk with the comment line, and no empty line behind it"
    assert b": keep-alive\n\n" not in first + rest
    await until(lambda: metric(early.metrics(), "platform_stream_early_heads_total") == before + 1)


@pytest.mark.parametrize("path", ROUTES)
async def test_old_go_client_reads_a_stream_with_comments(
    early: Gateway, client: httpx.AsyncClient, chat_key: str, path: str
) -> None:
    """Kind 12."""
    response = await ask(client, early, chat_key, path, "slow")
    assert response.text.startswith(KEEP_ALIVE)
    assert all(data == "[DONE]" or json.loads(data) for data in events_of_an_old_go_client(response.text))
    assert said(response.text) == "You said: Hello"


@pytest.mark.parametrize("path", ROUTES)
async def test_fallback_continues_after_an_early_head(
    early: Gateway, client: httpx.AsyncClient, chat_key: str, path: str
) -> None:
    """Kind 13: the first route is given up after the head was sent."""
    response = await ask(client, early, chat_key, path, "silent-then-good")
    assert response.status_code == 200
    assert response.text.startswith(KEEP_ALIVE)
    assert said(response.text) == "You said: Hello"


@pytest.mark.parametrize("path", ROUTES)
async def test_failure_after_an_early_head_is_an_error_event(
    early: Gateway, client: httpx.AsyncClient, chat_key: str, path: str
) -> None:
    """Kinds 11c and 13."""
    response = await ask(client, early, chat_key, path, "silent")
    assert response.status_code == 200
    request_id = response.headers["x-request-id"]
    events = response.text.replace(KEEP_ALIVE, "")
    error = json.loads(events.rpartition("data: ")[2])["error"]
    assert (error["code"], error["request_id"]) == ("provider_timeout", request_id)
    assert events.startswith("event: error\ndata: {" if path == PLATFORM_CHAT else "data: {")
    assert events.count("\n\n") == 1, "nothing follows it"
    line = await access_line(early, request_id)
    assert (line["status"], line["reason"]) == (200, "provider_timeout")


@pytest.mark.parametrize("path", ROUTES)
async def test_early_failure_keeps_its_status(
    early: Gateway, client: httpx.AsyncClient, chat_key: str, path: str
) -> None:
    response = await ask(client, early, chat_key, path, "nothing-of-the-kind")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/json")


@pytest.mark.parametrize("path", ROUTES)
async def test_disconnect_after_an_early_head_ends_the_call(
    early: Gateway, chat_key: str, simulator: ProviderSimulator, path: str
) -> None:
    asked = {"model": "silent", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    simulator.reset()
    async with connect(early) as connection:
        await connection.send(chat_request(chat_key, asked, "leaves-early", path))
        await connection.reader.readuntil(b": keep-alive\n")
    await simulator.wait_for_outcome("sim-hang@early", "client_closed")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("wire", WIRES)
async def test_chunk_without_content_allows_retry_and_fallback(
    early: Gateway, client: httpx.AsyncClient, chat_key: str, simulator: ProviderSimulator, wire: str, path: str
) -> None:
    """Kind 18: a role chunk, Azure's prompt filter, Anthropic's message_start, and then an error."""
    upstream = f"sim-role-then-error@early-{wire}"
    before = simulator.count(upstream)
    response = await ask(client, early, chat_key, path, f"{wire}-role-then-good")
    assert response.status_code == 200
    assert said(response.text) == "You said: Hello"
    assert response.headers["x-platform-attempts"] == "3"
    assert simulator.count(upstream) - before == 2, "retried once, then the next route"
    alone = await ask(client, early, chat_key, path, f"{wire}-role")
    assert (alone.status_code, alone.json()["error"]["code"]) == (502, "provider_error")


async def test_many_early_heads_leave_nothing_behind(early: Gateway, client: httpx.AsyncClient, chat_key: str) -> None:
    """The timers and tasks of streams that began early are gone: the gateway responds and no request is in flight."""
    paths: list[Any] = [ROUTES[n % 2] for n in range(20)]
    responses = await asyncio.gather(*(ask(client, early, chat_key, path, "slow") for path in paths))
    assert {said(response.text) for response in responses} == {"You said: Hello"}
    await until(lambda: metric(early.metrics(), "platform_http_requests_in_flight") == 0)


@pytest.mark.parametrize("path", ROUTES)
async def test_early_head_with_an_idempotency_key_is_sent(
    early: Gateway, client: httpx.AsyncClient, chat_key: str, simulator: ProviderSimulator, path: str
) -> None:
    """The work runs in a separate task; its stored response has the events, without comments."""
    headers = {"Authorization": f"Bearer {chat_key}", "Idempotency-Key": f"early-{path}"}
    asked = {"model": "slow", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    before = simulator.count("sim-delay-1000@early")
    first = await client.post(early.base_url + path, headers=headers, json=asked)
    again = await client.post(early.base_url + path, headers=headers, json=asked)
    assert first.text.startswith(KEEP_ALIVE)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.text == first.text.replace(KEEP_ALIVE, "")
    assert said(again.text) == "You said: Hello"
    assert simulator.count("sim-delay-1000@early") == before + 1
    failed = await client.post(
        early.base_url + path,
        headers={**headers, "Idempotency-Key": f"fails-{path}"},
        json={**asked, "model": "silent"},
    )
    assert failed.text.startswith(KEEP_ALIVE)
    assert '"provider_timeout"' in failed.text
