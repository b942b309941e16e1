"""A client that disconnects or reads slowly, in every client format: its slot and lease are freed at once, and the
records say why.

The gateway allows one call to the provider and one request per key at a time, so that a leak blocks the next request.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from apps.provider_simulator.server import ProviderSimulator
from platform_app.llm.usage.token_estimate import estimate_prompt_tokens
from tests.conftest import GENEROUS, Platform
from tests.support.gateway.chat_routes import (
    CHAT,
    MESSAGES,
    PLATFORM,
    RESPONSES,
    ChatRoute,
    over_client_routes,
    over_routes,
)
from tests.support.gateway.http import Connection, access_line, connect, metric, until, workers
from tests.support.gateway.process import Gateway, write_config
from tests.support.ledger.usage.records import BilledKey, usage_of

PROVIDER_TIMEOUT_SECONDS = 6
AT_ONCE_SECONDS = 5.0
"""Before the provider's own timeout would end the call."""
HEARTBEAT_SECONDS = 0.3


@dataclass(frozen=True)
class Leave:
    """When in the response a client disconnects."""

    model: str
    stream: bool
    wait_for: bytes = b""
    """What the client reads before it disconnects."""
    between_tries: bool = False
    """The provider has responded with a Retry-After."""
    text: str = "Hello, world"
    sends_ahead: bool = False
    """The client has sent its next request already."""


LEAVES = {
    "JSON, before the response": Leave("sim-hang@leave", False),
    "JSON, with the next request sent ahead": Leave("sim-hang@leave", False, sends_ahead=True),
    "stream, with the next request sent ahead": Leave("sim-slow-stream@leave", True, b"data: ", sends_ahead=True),
    "JSON, before the response to a large body": Leave("sim-hang@leave", False, text="x" * 1_000_000),
    "stream, between two chunks, after a large body": Leave(
        "sim-slow-stream@leave", True, b"data: ", text="x" * 200_000
    ),
    "JSON, in the middle of the provider's body": Leave("sim-stream-hang@leave", False),
    "stream, before the provider's headers": Leave("sim-hang@leave", True),
    "stream, before the first token": Leave("sim-slow-first-token-5000@leave", True),
    "stream, between two chunks": Leave("sim-slow-stream@leave", True, b"data: "),
    "stream, the provider is idle": Leave("sim-stream-hang@leave", True, b"data: "),
    "stream, during fast chunks": Leave("sim-huge-body-1024@leave", True, b"aaaa"),
    "JSON, while a retry waits": Leave("sim-rate-limited-5@leave", False, between_tries=True),
    "stream, while a retry waits": Leave("sim-overloaded-5@leave", True, between_tries=True),
}
ESSENTIAL = ("JSON, before the response", "stream, between two chunks")
"""The cases of the formats that share everything but their edge with chat completions."""
CASES = [
    *((where, route) for where in LEAVES for route in (PLATFORM, CHAT)),
    *((where, route) for where in ESSENTIAL for route in (RESPONSES, MESSAGES)),
]
DIES = {
    "sim-stream-drop@dies": "provider_bad_response",
    "sim-stream-truncated@dies": "provider_bad_response",
    "sim-stream-error@dies": "provider_error",
    "sim-stream-hang@dies": "provider_timeout",
}
UNREADABLE = ("malformed-json", "wrong-shape", "wrong-content-type", "drop-mid-body")
REFUSED = ("server-error", "drop")
MODELS = sorted(
    {
        "sim-ok",
        *(f"sim-{fault}@unreadable" for fault in (*UNREADABLE, *REFUSED)),
        "sim-huge-body-256@slow",
        "sim-slow-stream-1000@beats",
        *DIES,
        *(each.model for each in LEAVES.values()),
    }
)


@pytest.fixture(scope="module")
def single(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway that lets one call through to the provider at a time, and one of each key."""
    directory = tmp_path_factory.mktemp("single")
    rules = [*GENEROUS["rules"], {"name": "one-at-a-time", "scope": "key", "unit": "concurrent", "limit": 1}]
    provider = {"base_url": simulator.base_url, "api_key_secret": "OPENAI_API_KEY", "max_concurrent": 1}
    config = write_config(
        directory / "platform.yaml",
        simulator.base_url,
        {name: name for name in MODELS},
        providers={"simulator": {**provider, "max_waiting": 0}},
        rate_limits={"rules": rules},
        policies={"retry": {"max_attempts": 3}, "breaker": {"minimum_calls": 100_000}},
    )
    own = {
        "PLATFORM_STREAM_KEEP_ALIVE_SECONDS": str(HEARTBEAT_SECONDS),
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS": str(PROVIDER_TIMEOUT_SECONDS),
        "PLATFORM_PROVIDER_TOTAL_TIMEOUT_SECONDS": "30",
        "PLATFORM_PROVIDER_MAX_RESPONSE_BYTES": str(1 << 30),
    }
    with Gateway({**platform.environment, **own}, directory) as running:
        yield running


@pytest.fixture
def key(platform: Platform) -> BilledKey:
    record, text = platform.new_key("platform:chat")
    return BilledKey(record.key_id, text)


@pytest.fixture
def sim(simulator: ProviderSimulator) -> ProviderSimulator:
    """The simulator, with its counts reset."""
    simulator.reset()
    return simulator


class Poured:
    """Bytes that the simulator wrote to its sockets."""

    bytes = 0


@pytest.fixture
def poured(monkeypatch: pytest.MonkeyPatch) -> Poured:
    """Counts what the simulator, which runs in this process, writes."""
    count, write = Poured(), web.StreamResponse.write

    async def counting(self: web.StreamResponse, data: bytes) -> None:
        await write(self, data)
        count.bytes += len(data)

    monkeypatch.setattr(web.StreamResponse, "write", counting)
    return count


def ask(model: str, text: str = "Hello, world", route: ChatRoute = CHAT, **fields: Any) -> dict[str, Any]:
    return {**route.body(text, max_tokens=1024, model=model), **fields}


async def send(connection: Connection, route: ChatRoute, key: BilledKey, body: dict[str, Any], request_id: str) -> None:
    content = json.dumps(body)
    head = {"Host": "gateway", "X-Request-ID": request_id, "Content-Length": str(len(content)), **key.headers}
    lines = [f"POST {route.path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", content]
    await connection.send("\r\n".join(lines).encode())


def in_use(gateway: Gateway) -> float:
    return metric(gateway.metrics(), "platform_provider_slots_in_use", provider="simulator")


@pytest.mark.parametrize(("where", "route"), [pytest.param(*case, id=f"{case[0]}-{case[1].name}") for case in CASES])
async def test_disconnect_frees_slot_and_lease_at_once(
    single: Gateway,
    sim: ProviderSimulator,
    client: httpx.AsyncClient,
    platform: Platform,
    key: BilledKey,
    where: str,
    route: ChatRoute,
) -> None:
    leave = LEAVES[where]
    request_id = f"leaves-{key.key_id}"
    async with connect(single) as connection:
        await send(connection, route, key, ask(leave.model, leave.text, route, stream=leave.stream), request_id)
        if leave.sends_ahead:
            await send(connection, route, key, ask("sim-ok", route=route), "ahead")
        await sim.wait_for_outcome(leave.model, "completed" if leave.between_tries else "open")
        if leave.between_tries:
            await until(lambda: in_use(single) == 0)  # a waiting retry uses no slot
            await asyncio.sleep(0.05)
        elif leave.wait_for:
            await connection.reader.readuntil(leave.wait_for)
        # The slot and the lease are in use now.
        second = await client.post(single.base_url + route.path, headers=key.headers, json=ask("sim-ok", route=route))
        assert (second.status_code, "one-at-a-time" in second.text) == (429, True)
        assert in_use(single) == (0 if leave.between_tries else 1)
        left_at = time.monotonic()
        connection.writer.transport.abort()
        if not leave.between_tries:
            record = await sim.wait_for_outcome(leave.model, "client_closed")
            assert record.ended is not None
            assert record.ended - left_at < AT_ONCE_SECONDS

    # Slot and lease are free: the same key is admitted, and its call is sent at once.
    again = await client.post(single.base_url + route.path, headers=key.headers, json=ask("sim-ok", route=route))
    while again.status_code == 429 and time.monotonic() < left_at + 60:  # the lease is released over the network
        again = await client.post(single.base_url + route.path, headers=key.headers, json=ask("sim-ok", route=route))
    assert again.status_code == 200, again.text
    assert in_use(single) == 0
    assert sim.count(leave.model) == 1, "the call was retried without a client"
    line = await access_line(single, request_id)
    assert (line["status"], line["reason"], line["route"]) == (499, "client_closed", route.path)
    left, _ = await usage_of(platform, key, 2)
    assert (left["outcome"], left["attempts"], left["model"]) == ("client_closed", 1, leave.model)
    assert left["estimated"]
    assert left["prompt_tokens"] > 0
    # A provider generates a whole response to its end; a stream is billed as far as it arrived.
    assert (left["completion_tokens"] > 0) is (leave.wait_for != b"" if leave.stream else not leave.between_tries)
    assert left["completion_tokens"] <= 1024 or leave.wait_for == b"aaaa"
    assert left["request_id"] == request_id


@pytest.mark.parametrize(
    ("fault", "stream"),
    [*((fault, False) for fault in UNREADABLE), ("malformed-json", True), ("wrong-content-type", True)],
)
async def test_unreadable_responses_are_billed_as_estimated(
    single: Gateway, client: httpx.AsyncClient, platform: Platform, key: BilledKey, fault: str, stream: bool
) -> None:
    """The provider bills each of the attempts."""
    model = f"sim-{fault}@unreadable"
    response = await client.post(single.base_url + CHAT.path, headers=key.headers, json=ask(model, stream=stream))
    assert "provider_bad_response" in response.text, "in the body of a 502, or in an event if retries took long"
    [row] = await usage_of(platform, key)
    assert (row["outcome"], row["attempts"], row["estimated"]) == ("provider_bad_response", 3, True)
    prompt = estimate_prompt_tokens(ask(model))
    assert row["prompt_tokens"] == 3 * prompt
    assert 0 < row["completion_tokens"] <= 3 * 1024


@pytest.mark.parametrize("fault", REFUSED)
async def test_refused_attempts_cost_nothing(
    single: Gateway, client: httpx.AsyncClient, platform: Platform, key: BilledKey, fault: str
) -> None:
    response = await client.post(single.base_url + CHAT.path, headers=key.headers, json=ask(f"sim-{fault}@unreadable"))
    assert response.status_code in (502, 503)
    [row] = await usage_of(platform, key)
    assert (row["attempts"], row["estimated"]) == (3, False)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (0, 0)


@over_routes
@pytest.mark.parametrize("model", DIES)
async def test_failing_provider_stream_ends_in_an_error_event(
    single: Gateway, sim: ProviderSimulator, client: httpx.AsyncClient, platform: Platform, key: BilledKey,
    model: str, route: ChatRoute,
) -> None:  # fmt: skip
    response = await client.post(
        single.base_url + route.path, headers=key.headers, json=ask(model, route=route, stream=True)
    )
    assert response.status_code == 200
    blocks = [block for block in response.text.replace(": keep-alive\n", "").split("\n\n") if block]
    assert len(blocks) >= 2, "there were chunks before"
    assert route.stream_error(response.content) == DIES[model]
    assert not route.is_complete(response.content)
    if route is CHAT:
        data = json.loads(blocks[-1].rpartition("data: ")[2])
        assert set(data["error"]) == {"message", "type", "param", "code", "request_id"}
        assert data["error"]["request_id"] == response.headers["x-request-id"]
        assert "[DONE]" not in response.text
        assert not any('"error"' in block for block in blocks[:-1])
    elif route is PLATFORM:
        assert blocks[-1].startswith("event: error\n")
        assert "event: done" not in response.text
    [row] = await usage_of(platform, key)
    assert (row["outcome"], row["estimated"], row["stream"]) == (DIES[model], True, True)
    assert row["completion_tokens"] > 0, "the tokens of the chunks are counted"
    assert row["first_token_ms"] is not None


@pytest.mark.parametrize("route", [PLATFORM, CHAT], ids=lambda route: route.name)
async def test_slow_reader_slows_the_provider(
    single: Gateway, sim: ProviderSimulator, key: BilledKey, poured: Poured, route: ChatRoute
) -> None:
    """The provider offers 256 MiB. The gateway holds no more than its sockets' buffers and a few chunks."""
    model = "sim-huge-body-256@slow"
    async with connect(single) as connection:
        await send(connection, route, key, ask(model, route=route, stream=True), f"slow-{key.key_id}")
        await connection.reader.readuntil(b"aaaa")
        at, unchanged = -1, 0
        while unchanged < 6:  # until every buffer on the way is full: nothing is written for three seconds
            unchanged = unchanged + 1 if at == poured.bytes else 0
            at = poured.bytes
            await asyncio.sleep(0.5)
        before = _resident_mib(single)
        await asyncio.sleep(0.7)
        assert poured.bytes == at, "the provider keeps writing although the client does not read"
        assert _resident_mib(single) - before < 4
        assert sim.stats()[model]["open"] == 1
        read = 0
        while read < 64 * 1024 * 1024:  # and it continues once the client reads
            received = await connection.reader.read(1 << 20)
            assert received, "the stream ended"
            read += len(received)
        assert _resident_mib(single) - before < 32
    await sim.wait_for_outcome(model, "client_closed")


@pytest.mark.parametrize("route", [PLATFORM, CHAT], ids=lambda route: route.name)
async def test_idle_stream_sends_heartbeats(
    single: Gateway, sim: ProviderSimulator, client: httpx.AsyncClient, key: BilledKey, route: ChatRoute
) -> None:
    body = ask("sim-slow-stream-1000@beats", "refuse:", route, stream=True, max_tokens=1)
    text, began = "", time.monotonic()
    async with client.stream("POST", single.base_url + route.path, headers=key.headers, json=body) as response:
        async for chunk in response.aiter_text():
            text += chunk
            if text.count("data: ") == 3:  # the first, without content, comes with the second
                break
    between = text.rpartition("data: ")[0].rpartition("\n\n")[2]
    took = time.monotonic() - began
    assert 1 <= between.count(": keep-alive\n") <= took / HEARTBEAT_SECONDS, "a comment for each 0.3 s without a chunk"
    assert between.replace(": keep-alive\n", "") in ("", "event: delta\n")


@over_client_routes
async def test_heartbeats_are_between_events(
    single: Gateway, client: httpx.AsyncClient, key: BilledKey, route: ChatRoute
) -> None:
    """Without its comments the stream is a complete one of its format."""
    body = ask("sim-slow-stream-1000@beats", "Hi", route, stream=True)
    response = await client.post(single.base_url + route.path, headers=key.headers, json=body)
    _, _, rest = response.text.partition("data: ")
    assert ": keep-alive\n" in rest
    assert route.is_complete(response.content)
    assert route.stream_text(response.content)


def _resident_mib(gateway: Gateway) -> float:
    """Return the resident memory of all workers together."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in workers(gateway))
    return pages * 4096 / 2**20
