"""Every adapter frees its connection at once, whenever the caller cancels."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from apps.provider_simulator.server import ProviderSimulator
from platform_app.errors import PlatformError, ProviderFailed, ProviderTimeout
from platform_app.llm.chunk_stream import StreamObserver
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.interfaces import ModelAdapter
from platform_app.llm.responses import ChatChunk
from tests.support.gateway.http import until
from tests.support.providers.wires import MIB, adapter_for, call, collect, complete, open_stream, url_of
from tests.support.servers.network.tcp import Server, read_request, silent
from tests.support.timing.responsive_time import responsive_time

BOTH_STREAM = pytest.mark.parametrize("streams", [False, True], ids=["json", "stream"])
AT_ONCE = 10.0
"""Within this time the provider must see that the call was cancelled. It is far below every timeout of these tests."""


@pytest.fixture
def patient(pool: ConnectionPool, simulator: ProviderSimulator, wire: str) -> ModelAdapter:
    """Create an adapter whose idle timeout is longer than any test."""
    return adapter_for(wire, pool, url_of(wire, simulator), idle_timeout=60)


@asynccontextmanager
async def at_once() -> AsyncIterator[None]:
    """Require that the block takes less than AT_ONCE, in time that the event loop could run."""
    async with responsive_time() as spent, asyncio.timeout(300):
        yield
    assert spent.seconds < AT_ONCE


async def cancelled(task: asyncio.Task[object]) -> None:
    """Cancel the task and wait for its end."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def the_pool_is_free(adapter: ModelAdapter) -> None:
    """The pool has one connection; it must be free."""
    await complete(adapter, call(seconds=30))


@pytest.mark.parametrize(
    ("model", "streams"),
    [
        ("sim-hang@cancel", False),
        ("sim-stream-hang@cancel", False),
        ("sim-hang@cancel", True),
        ("sim-slow-first-token@cancel", True),
        ("sim-stream-hang@cancel", True),
        ("sim-slow-stream@cancel", True),
    ],
)
async def test_cancellation_closes_provider_connection(
    patient: ModelAdapter, simulator: ProviderSimulator, model: str, streams: bool
) -> None:
    """It is cancelled while it waits for the head, the rest of the body, the first chunk or the next chunk."""
    simulator.reset()
    chunks: list[ChatChunk] = []
    asked = call(model, streams=streams)
    work = collect(patient, asked, chunks) if streams else complete(patient, asked)
    task: asyncio.Task[object] = asyncio.ensure_future(work)
    await simulator.wait_for_outcome(model, "open")
    if streams and model.startswith(("sim-stream-hang", "sim-slow-stream")):
        await until(lambda: bool(chunks))

    async with at_once():
        await cancelled(task)
        await simulator.wait_for_outcome(model, "client_closed")
    await the_pool_is_free(patient)


@BOTH_STREAM
async def test_cancellation_during_tls_handshake_closes_socket(pool: ConnectionPool, wire: str, streams: bool) -> None:
    """The server accepts the connection, but never continues the TLS handshake."""
    async with silent() as server:
        adapter = adapter_for(wire, pool, server.url.replace("http:", "https:"), connect_timeout=60, idle_timeout=60)
        task: asyncio.Task[object] = asyncio.ensure_future(adapter.send(call(streams=streams), "key"))
        await asyncio.wait_for(server.connected.wait(), 60)
        async with at_once():
            await cancelled(task)
            await server.closed.wait()


@BOTH_STREAM
async def test_cancellation_during_upload_stops_sending(pool: ConnectionPool, wire: str, streams: bool) -> None:
    """The provider reads the head and a little of the body, and the rest only after the cancellation."""
    on, gone = asyncio.Event(), asyncio.Event()
    received = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await reader.readexactly(100)
        await on.wait()
        while part := await reader.read(MIB):
            received += len(part)
        gone.set()

    async with Server(serve) as server:
        adapter = adapter_for(wire, pool, server.url, idle_timeout=60)
        asked = call("m", "x" * 32 * MIB, streams=streams)
        task: asyncio.Task[object] = asyncio.ensure_future(adapter.send(asked, "key"))
        await asyncio.wait_for(server.connected.wait(), 60)
        await asyncio.sleep(0.1)
        await cancelled(task)
        on.set()
        await asyncio.wait_for(gone.wait(), 60)
        assert received < 16 * MIB


@BOTH_STREAM
async def test_provider_not_reading_request_times_out(pool: ConnectionPool, wire: str, streams: bool) -> None:
    """The idle timeout covers sending too: a provider that reads nothing will not respond either."""
    given_up, gone = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await given_up.wait()
        while await reader.read(MIB):
            pass
        gone.set()

    async with Server(serve) as server:
        adapter = adapter_for(wire, pool, server.url, idle_timeout=0.2)
        with pytest.raises(ProviderTimeout) as caught:
            await adapter.send(call("m", "x" * 32 * MIB, streams=streams), "key")
        assert caught.value.details == ["no data for 0.2 s"]
        given_up.set()
        await asyncio.wait_for(gone.wait(), 60)


async def test_cancelled_wait_for_connection_frees_nothing_else(patient: ModelAdapter, pool: ConnectionPool) -> None:
    """The waiting call is cancelled, the running one continues, and neither is counted twice."""
    holds: asyncio.Task[object] = asyncio.ensure_future(complete(patient, call("sim-hang")))
    await until(lambda: pool.made == 1)
    waits: asyncio.Task[object] = asyncio.ensure_future(patient.send(call(streams=True), "key"))
    await asyncio.sleep(0.05)
    await cancelled(waits)
    assert not holds.done()
    await cancelled(holds)
    await the_pool_is_free(patient)


async def test_closed_stream_closes_provider_connection(patient: ModelAdapter, simulator: ProviderSimulator) -> None:
    """One stream is closed before its first chunk was read, one in the middle."""
    for taken in (0, 2):
        simulator.reset()
        chunks = await open_stream(patient, call("sim-slow-stream@close", streams=True))
        for _ in range(taken):
            await anext(chunks)
        async with at_once():
            await chunks.aclose()
            await simulator.wait_for_outcome("sim-slow-stream@close", "client_closed")
        assert [chunk async for chunk in chunks] == []
        await the_pool_is_free(patient)


async def test_closing_stream_ends_waiting_reader(patient: ModelAdapter) -> None:
    chunks = await open_stream(patient, call("sim-stream-hang", streams=True))
    endings: list[BaseException | None] = []
    chunks.on_end(StreamObserver.METERING, endings.append)

    async def read() -> None:
        async for _ in chunks:
            pass

    waits: asyncio.Task[None] = asyncio.ensure_future(read())
    await asyncio.sleep(0.1)
    async with at_once():
        await chunks.aclose()
        with pytest.raises(ProviderFailed):
            await waits
    assert len(endings) == 1
    await the_pool_is_free(patient)


@pytest.mark.parametrize(
    "model",
    ["sim-overloaded", "sim-hang", "sim-malformed-json", "sim-wrong-content-type", "sim-drop", "sim-huge-line-9"],
)
async def test_stream_failing_before_first_chunk_frees_pool(adapter: ModelAdapter, model: str) -> None:
    with pytest.raises(PlatformError):
        await adapter.send(call(model, streams=True), "key")
    await the_pool_is_free(adapter)


async def test_first_event_error_raises_from_send(
    pool: ConnectionPool, wire: str, simulator: ProviderSimulator
) -> None:
    event = b'data: {"type": "error", "error": {"type": "overloaded_error", "code": "server_is_overloaded"}}\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head + b"%x\r\n%b\r\n" % (len(event), event))
        await reader.read()

    async with Server(serve) as server:
        with pytest.raises(ProviderFailed) as caught:
            await adapter_for(wire, pool, server.url).send(call(streams=True), "key")
    assert caught.value.code == "provider_unavailable"
    await the_pool_is_free(adapter_for(wire, pool, url_of(wire, simulator)))


async def test_connection_is_reused_after_success(adapter: ModelAdapter, pool: ConnectionPool) -> None:
    for _ in range(3):
        await complete(adapter, call())
        await collect(adapter, call(streams=True), [])
    assert pool.made == 1


async def test_connection_is_reused_after_error_response(adapter: ModelAdapter, pool: ConnectionPool) -> None:
    for _ in range(3):
        with pytest.raises(PlatformError):
            await complete(adapter, call("sim-server-error"))
        with pytest.raises(PlatformError):
            await open_stream(adapter, call("sim-rate-limited", streams=True))
    assert pool.made == 1


async def test_idle_pooled_connection_keeps_no_old_timeout(pool: ConnectionPool) -> None:
    """Responses of any length with a pause between them that is longer than the idle timeout: no timer of an earlier
    call is left."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for length in (1, 1000, 300_000, MIB, 5 * MIB, 1):
            await read_request(reader)
            body = b'{"choices": [{"message": {"content": "%b"}}]}' % (b"x" * length)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            writer.write(head + body)
            await writer.drain()

    async with Server(serve) as server:
        adapter = adapter_for("openai", pool, server.url, idle_timeout=1.0)
        for _ in range(6):
            await complete(adapter, call())
            await asyncio.sleep(1.1)
    assert pool.made == 1


PIECES = {
    "openai-responses": b'data: {"type": "response.output_text.delta", "output_index": 0, "delta": "%b"}\n\n',
    "openai": b'data: {"choices": [{"index": 0, "delta": {"content": "%b"}}]}\n\n',
    "anthropic": b'data: {"type": "content_block_delta", "index": 0, '
    b'"delta": {"type": "text_delta", "text": "%b"}}\n\n',
}
STARTS = {
    "openai-responses": b'data: {"type": "response.created", "response": {"id": "r", "output": []}}\n\n',
    "openai": b"",
    "anthropic": b'data: {"type": "message_start", "message": {"id": "m", "usage": {}}}\n\n'
    b'data: {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}\n\n',
}


async def test_slow_reader_stops_provider_writes(pool: ConnectionPool, wire: str) -> None:
    """A consumer that does not read chunks stops the provider's writes, whatever the size of the stream."""
    shape = "openai" if wire == "azure" else wire
    part = PIECES[shape] % (b"x" * 1000)
    written = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_request(reader)
        made: socket.socket = writer.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + STARTS[shape])
        while True:
            writer.write(part)
            await writer.drain()
            written += len(part)

    async with Server(serve) as server:
        adapter = adapter_for(wire, pool, server.url, idle_timeout=1.0)
        chunks = await open_stream(adapter, call(streams=True, seconds=100))
        before = -1
        async with asyncio.timeout(300):  # the kernel's buffers grow for a while
            while written != before:
                before = written
                await asyncio.sleep(1.1)  # longer than the idle timeout, which does not apply to the consumer
        assert before < 16 * MIB
        for _ in range(10_000):
            await anext(chunks)
        assert written > before
        async with at_once():
            await chunks.aclose()
            await server.closed.wait()
