"""Bounds on connections, bodies and time, over raw sockets: each is reached, visible to the client, and counted."""

import asyncio
import json
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, Platform
from tests.support.gateway.http import OPENAI_CHAT, Connection, chat_head, chat_request, connect, metric, metric_becomes
from tests.support.gateway.process import Gateway, write_config

CONNECTIONS = 12
KEY_BYTES = 2 * 1024 * 1024
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n"


@pytest.fixture(scope="module")
def bounded(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway with small bounds; one request a minute for each key on OpenAI's route."""
    directory = tmp_path_factory.mktemp("bounded")
    one = {"name": "one-a-minute", "scope": "key", "unit": "requests", "limit": 1, "window_seconds": 60}
    rules = [*GENEROUS["rules"], {**one, "routes": [OPENAI_CHAT]}]
    models = {"sim-ok": "sim-ok", "sim-hang@edge": "sim-hang@edge", "sim-huge-body-256": "sim-huge-body-256"}
    config = write_config(directory / "platform.yaml", simulator.base_url, models, rate_limits={"rules": rules})
    own = {
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_HEAD_TIMEOUT_SECONDS": "1",
        "PLATFORM_KEEP_ALIVE_SECONDS": "1.5",
        "PLATFORM_WRITE_TIMEOUT_SECONDS": "1",
        "PLATFORM_MAX_CONNECTIONS_PER_ADDRESS": str(CONNECTIONS),
        "PLATFORM_MAX_BODY_BYTES": str(KEY_BYTES),
        "PLATFORM_MAX_BODY_BYTES_IN_FLIGHT_PER_KEY": str(KEY_BYTES),
        "PLATFORM_MAX_BODY_BYTES_IN_FLIGHT": str(2 * KEY_BYTES),
        "PLATFORM_REDIS_TIMEOUT_MS": "5000",
    }
    with Gateway({**platform.environment, **own}, directory) as running:
        yield running


def refused(gateway: Gateway, reason: str) -> float:
    return metric(gateway.metrics(), "platform_http_refused_total", reason=reason)


@asynccontextmanager
async def counted(gateway: Gateway, reason: str, times: int = 1) -> AsyncIterator[None]:
    """Require that the block counts this many refusals."""
    before = refused(gateway, reason)
    yield
    await metric_becomes(gateway, before + times, "platform_http_refused_total", reason=reason)


async def rest(connection: Connection) -> bytes:
    """Return what arrives until the gateway closes the connection."""
    received = b""
    try:
        while chunk := await connection.reader.read(65536):
            received += chunk
    except ConnectionError:  # reset, or closed while this side was writing
        pass
    return received


async def test_unused_connection_is_closed_without_a_response(bounded: Gateway) -> None:
    async with counted(bounded, "idle"), connect(bounded) as connection:
        assert await rest(connection) == b""


async def test_half_a_head_gets_408(bounded: Gateway) -> None:
    async with counted(bounded, "head_slow"), connect(bounded) as connection:
        await connection.send(LIVEZ[:-4])
        received = await rest(connection)
    assert received.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    body = json.loads(received.partition(b"\r\n\r\n")[2])
    assert body["error"]["code"] == "request_timeout"
    assert f"x-request-id: {body['error']['request_id']}".encode() in received


@pytest.mark.parametrize(
    "parts",
    [
        [LIVEZ[:-4]], [LIVEZ[:-4], b"\0\r\n\r\n"], [b"GET", b" /\0 HTTP/1.1\r\n\r\n"], [LIVEZ + b"G"],
        [LIVEZ[:-2] + 500 * b"A: b\r\n" + b"\r\n"],
        [b"POST /v1/platform/chat HTTP/1.1\r\nHost: gateway\r\nContent-Length: 900000\r\n\r\n", 1000 * b"x"],
    ],
    ids=["half a head", "a bad end of a head", "a bad line in two parts", "one byte behind a response",
         "too many headers", "a body that is not wanted"],
)  # fmt: skip
async def test_refused_client_that_stays_leaves_bounds_of_others(bounded: Gateway, parts: list[bytes]) -> None:
    """The client has its refusal and keeps its side open past the head timeout: nothing more is written to it, and the
    watch over all connections continues."""
    async with connect(bounded) as refused_one:
        for part in parts:
            await refused_one.send(part)
            await asyncio.sleep(0.1)
        assert await rest(refused_one) != b"", "it is told, and this side of the connection ends"
        for _ in range(2):  # each waits for the time of a head at least
            async with counted(bounded, "idle"), connect(bounded) as silent:
                assert await rest(silent) == b""
    assert not [line for line in bounded.log_lines() if line.get("component") == "asyncio"]


def _visit(gateway: Gateway, chance: random.Random, request: bytes) -> None:
    """Send something, wait for about as long as a bound, and end the connection in a random way."""
    starts = [
        b"", LIVEZ[: chance.randrange(1, len(LIVEZ))], LIVEZ, LIVEZ + b"G", request, 5 * LIVEZ + request, b"\0\r\n\r\n",
        b"POST /v1/platform/chat HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000,
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=300) as connection, suppress(OSError):
        connection.sendall(chance.choice(starts))
        if chance.random() < 0.3:
            connection.shutdown(socket.SHUT_WR)
        time.sleep(chance.choice([0, 0.01, 0.3, 0.9, 1.0, 1.1, 1.5, 2.2, 3.1]))
        if chance.random() < 0.3:
            connection.settimeout(0.1)
            connection.recv(100)
        if chance.random() < 0.6:  # closed with a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_any_way_to_end_a_connection_leaves_the_bounds(bounded: Gateway, platform: Platform) -> None:
    request = chat_request(platform.key("platform:chat"), {"prompt": "tokens:5000"}, "visits")

    def visits(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(6):
            _visit(bounded, chance, request)

    await asyncio.gather(*(asyncio.to_thread(visits, seed) for seed in range(CONNECTIONS - 2)))
    async with counted(bounded, "idle"), connect(bounded) as silent:
        assert await rest(silent) == b""
    assert [line for line in bounded.log_lines() if line.get("level") == "error"] == []


async def test_dripped_head_does_not_extend_its_time(bounded: Gateway) -> None:
    async with connect(bounded) as connection:
        reading = asyncio.create_task(rest(connection))
        for byte in LIVEZ * 100:
            if reading.done():
                break
            connection.writer.write(bytes([byte]))
            await asyncio.sleep(0.2)
        assert b" 408 " in await reading


async def test_idle_connection_is_closed_after_a_response(bounded: Gateway) -> None:
    async with counted(bounded, "idle"), connect(bounded) as connection:
        await connection.send(LIVEZ)
        assert (await connection.answer())[0] == 200
        assert await rest(connection) == b""


async def test_byte_after_a_response_starts_the_head_timeout(bounded: Gateway) -> None:
    async with counted(bounded, "head_slow"), connect(bounded) as connection:
        await connection.send(LIVEZ + b"G")
        assert (await connection.answer())[0] == 200
        assert b" 408 " in await rest(connection)


async def test_idle_connection_is_closed_for_a_new_one(bounded: Gateway) -> None:
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(connect(bounded)) for _ in range(CONNECTIONS)]
        newcomer = await stack.enter_async_context(connect(bounded))
        await newcomer.send(LIVEZ)
        assert (await newcomer.answer())[0] == 200
        assert await rest(silent[0]) == b""


async def test_active_connection_is_not_closed_for_a_new_one(
    bounded: Gateway, platform: Platform, simulator: ProviderSimulator
) -> None:
    key = platform.key("platform:chat")
    async with AsyncExitStack() as stack:
        for number in range(CONNECTIONS):
            busy = await stack.enter_async_context(connect(bounded))
            await busy.send(chat_request(key, {"prompt": "x", "model": "sim-hang@edge"}, f"busy-{number}"))
        while simulator.stats().get("sim-hang@edge", {}).get("open", 0) < CONNECTIONS:
            await asyncio.sleep(0.02)
        async with counted(bounded, "connections_per_address"), connect(bounded) as one_more:
            received = await rest(one_more)
        assert received == b"" or received.startswith(b"HTTP/1.1 503 ")
    served = False
    while not served:  # the gateway notices one after the other that the clients have left
        async with connect(bounded) as after:
            await after.send(LIVEZ)
            served = (await after.answer())[0] == 200


async def test_requests_sent_ahead_are_bounded(bounded: Gateway) -> None:
    async with counted(bounded, "pipeline"), connect(bounded) as connection:
        connection.writer.write(LIVEZ * 60_000)
        received = await rest(connection)
    responses = received.count(b"HTTP/1.1 200 OK\r\n")
    assert 1 <= responses < 60_000
    assert received.count(b"connection: close\r\n") == 1


async def test_large_head_is_refused_while_it_arrives(bounded: Gateway) -> None:
    async with counted(bounded, "head_too_large"), connect(bounded) as connection:
        connection.writer.write(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1_000_000)
        assert (await rest(connection)).startswith(b"HTTP/1.1 431 ")


async def test_unwanted_chunked_body_is_not_read(bounded: Gateway) -> None:
    """The gateway sends a 401 and closes the connection; most of the client's body is never read."""
    async with connect(bounded) as connection:
        head = chat_head("fbp_no_key", "endless", "Transfer-Encoding: chunked")
        await connection.send(head)
        sent = 0
        try:
            while sent < 2 << 30:
                connection.writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                await connection.writer.drain()
                sent += 65536
        except (ConnectionError, BrokenPipeError):
            pass
        assert sent < 1 << 30
        assert b" 401 " in await rest(connection) or sent > 0


async def test_reader_that_takes_nothing_is_disconnected(
    bounded: Gateway, platform: Platform, simulator: ProviderSimulator
) -> None:
    key = platform.key("platform:chat")
    async with counted(bounded, "reader_slow"), connect(bounded) as connection:
        body = {"prompt": "x", "model": "sim-huge-body-256", "stream": True}
        await connection.send(chat_request(key, body, "takes-nothing"))
        await simulator.wait_for_outcome("sim-huge-body-256", "client_closed")
    line = await asyncio.to_thread(bounded.access_line, "takes-nothing", 20.0)
    assert (line["status"], line["reason"]) == (499, "client_closed")


async def test_bodies_of_one_key_are_bounded_together(bounded: Gateway, platform: Platform) -> None:
    """The first body declares all bytes that the key may have and sends none; others are refused at once, unread."""
    key, other = platform.key("platform:chat"), platform.key("platform:chat")
    async with connect(bounded) as first, connect(bounded) as second:
        await first.send(chat_head(key, "holds-all", f"Content-Length: {KEY_BYTES}") + b'{"prompt": "')
        while True:  # the first may not have been looked at yet
            async with connect(bounded) as asking:
                await asking.send(chat_head(key, "holds-more", "Content-Length: 100000"))
                async with asyncio.timeout(300):
                    status, headers, body = await asking.answer()
            if status == 429:
                break
        assert headers["retry-after"] == "1"
        assert headers["connection"] == "close"
        assert "bodies" in json.loads(body)["error"]["message"]
        await second.send(chat_request(other, {"prompt": "x"}, "another-key"))
        assert (await second.answer())[0] == 200
    async with connect(bounded) as after:
        while True:  # the first body's bytes are released once the gateway notices the disconnect
            await after.send(chat_request(key, {"prompt": "x" * 100_000}, "afterwards"))
            if (await after.answer())[0] == 200:
                break


async def test_spent_key_is_refused_before_its_body(bounded: Gateway, platform: Platform) -> None:
    """A second refusal needs neither the body nor a round trip to Redis."""
    key = platform.key("platform:chat")
    body = {"model": "sim-ok", "messages": [{"role": "user", "content": "x"}]}
    async with connect(bounded) as connection:
        for expected in (200, 429):
            await connection.send(chat_request(key, body, f"spends-{expected}", OPENAI_CHAT))
            assert (await connection.answer())[0] == expected
        before = metric(bounded.metrics(), "platform_limiter_total", mode="shared")
        await connection.send(chat_head(key, "spent", "Content-Length: 1000000", path=OPENAI_CHAT))  # and no body
        async with asyncio.timeout(300):
            status, headers, content = await connection.answer()
    assert status == 429
    assert "one-a-minute" in json.loads(content)["error"]["message"]
    assert 1 <= int(headers["retry-after"]) <= 62  # a unit counts for at most a 64th of its window too long
    assert {"ratelimit", "ratelimit-policy", "x-ratelimit-remaining-requests"} <= set(headers)
    after = bounded.metrics()
    assert metric(after, "platform_limiter_total", mode="shared") == before
    assert metric(after, "platform_limiter_total", mode="remembered", decision="denied") == 1


@pytest.mark.parametrize("parts", [[b"\r\n", LIVEZ], [b"\r", b"\n" + LIVEZ], [b"\r\n" + LIVEZ], [b"\r", b"\n", LIVEZ]])
async def test_empty_line_before_a_request_is_skipped(bounded: Gateway, parts: list[bytes]) -> None:
    """RFC 9112, section 2.2. A second empty line is refused."""
    async with connect(bounded) as connection:
        for part in parts:
            await connection.send(part)
            await asyncio.sleep(0.02)
        assert (await connection.answer())[0] == 200
        await connection.send(b"\r\n\r\n" + LIVEZ)
        assert (await connection.answer())[0] == 400
