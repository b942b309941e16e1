"""Responses on a connection: every way in which one may end, and everything that is not a valid response."""

import asyncio

import pytest

from platform_app.llm.http.transport.connection import MAX_HEAD_BYTES, MAX_INTERIM_RESPONSES
from platform_app.llm.http.transport.errors import ConnectionLost, IncompleteResponse, ProtocolError, TransportError
from platform_app.llm.http.transport.response_stream import HIGH_WATER
from tests.integration.providers.transport.conftest import Run
from tests.support.providers.transport import OK, always, once, read, sized, talking, until, whole
from tests.support.servers.network.tcp import read_request

CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GOOD = {
    "a length": sized(b"hello"),
    "chunks": CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "chunks with extensions and trailers": CHUNKED + b"5;a=b\r\nhello\r\n0\r\nDigest: x\r\nX: y\r\n\r\n",
    "an interim answer": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 3\r\n\r\n" + sized(b"hello"),
    "two interim answers": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + sized(b"hello"),
    "as many interim answers as may be": b"HTTP/1.1 103 Early Hints\r\n\r\n" * MAX_INTERIM_RESPONSES + sized(b"hello"),
    "an offer of HTTP/2": sized(b"hello", b"Connection: upgrade\r\nUpgrade: h2c\r\n"),
    "a coding in another case": OK + b"Transfer-Encoding: Chunked \r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "no reason": b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("pause", [0, 0.0005], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("response", GOOD.values(), ids=GOOD)
def test_complete_response_keeps_connection(run: Run, response: bytes, pause: float) -> None:
    async def scenario() -> None:
        async with talking(always(response, pause=pause)) as client:
            for _ in range(2):
                exchange = await client.ask()
                assert (exchange.status, await read(exchange)) == (200, b"hello")
                assert exchange.complete
                assert await exchange.read(until()) == b""
            assert client.pool.made == 1

    run(scenario())


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_response_without_body_is_complete(run: Run, status: bytes) -> None:
    async def scenario() -> None:
        async with talking(always(b"HTTP/1.1 %b\r\n\r\n" % status)) as client:
            assert await client.body() == await client.body() == b""
            assert client.pool.made == 1

    run(scenario())


def test_headers_are_lower_case_without_trailers(run: Run) -> None:
    async def scenario() -> None:
        async with talking(always(GOOD["chunks with extensions and trailers"])) as client:
            exchange = await client.ask()
            await read(exchange)
            assert exchange.headers == {b"transfer-encoding": b"chunked"}

    run(scenario())


@pytest.mark.parametrize(
    "response",
    [OK + b"\r\nhello", b"HTTP/1.0 200 OK\r\n\r\nhello", OK + b"Connection: close\r\n\r\nhello"],
    ids=["1.1", "1.0", "close"],
)
def test_connection_end_completes_unframed_response(run: Run, response: bytes) -> None:
    async def scenario() -> None:
        async with talking(once(response)) as client:
            assert await client.body() == await client.body() == b"hello"
            assert client.pool.made == 2

    run(scenario())


@pytest.mark.parametrize(
    "response",
    [sized(b"hello", b"Connection: close\r\n"), b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"],
    ids=["close", "1.0"],
)
def test_connection_close_header_closes_connection(run: Run, response: bytes) -> None:
    async def scenario() -> None:
        async with talking(always(response)) as client:
            assert await client.body() == await client.body() == b"hello"
            assert client.pool.made == 2

    run(scenario())


NO_HTTP = {
    "words": b"hello there\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x28",
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length below zero": OK + b"Content-Length: -1\r\n\r\n",
    "a line of a header": OK + b"X: y\r\n folded\rz\r\n\r\n",
    "a status of 0": b"HTTP/1.1 000 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a status of 0 without a body": b"HTTP/1.1 000 OK\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a status of 600": b"HTTP/1.1 600 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a status of 999": b"HTTP/1.1 999 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/2": b"HTTP/2 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "frames of HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
    "RTSP": b"RTSP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "ICE": b"ICE/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a plain 101": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "a 101 with a length": b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 5\r\n\r\nhello",
    "an equal length twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "a length with a sign": OK + b"Content-Length: +5\r\n\r\nhello",
    "a length beyond 64 bits": OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "chunks and a length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "no coding": OK + b"Transfer-Encoding: identity\r\n\r\nhello",
    "a coding that ends in chunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "two codings": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "two codings in another order": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks of HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "a folded header": OK + b"X: y\r\n folded\r\nContent-Length: 5\r\n\r\nhello",
    "a header folded before its value": OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a NUL in a value": OK + b"X: a\x00b\r\nContent-Length: 5\r\n\r\nhello",
    "a NUL in a name": OK + b"X\x00: a\r\nContent-Length: 5\r\n\r\nhello",
    "a NUL in the reason": b"HTTP/1.1 200 O\x00K\r\nContent-Length: 5\r\n\r\nhello",
    "a space before a colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "lines that end in LF": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "interim answers above the bound": b"HTTP/1.1 103 Early Hints\r\n\r\n" * (MAX_INTERIM_RESPONSES + 1),
    "a long reason": b"HTTP/1.1 200 " + b"a" * 2 * MAX_HEAD_BYTES,
    "a long header": OK + b"X: " + b"y" * 2 * MAX_HEAD_BYTES,
    "many headers": OK + b"X: y\r\n" * MAX_HEAD_BYTES,
    "many interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_HEAD_BYTES,
}


@pytest.mark.parametrize("response", NO_HTTP.values(), ids=NO_HTTP)
def test_invalid_head_raises_protocol_error(run: Run, response: bytes) -> None:
    """The response is refused at once, and its connection closed: the next request gets another one."""

    async def scenario() -> None:
        async with talking(always(response), connections=1) as client:
            for _ in range(2):
                exchange = await client.send()
                with pytest.raises(ProtocolError):
                    await exchange.head(until())
            assert client.pool.made == 2

    run(scenario())


@pytest.mark.parametrize("name", ["a status of 0", "RTSP", "frames of HTTP/2", "HTTP/2.0", "no coding"])
def test_bad_head_is_refused_in_any_split(run: Run, name: str) -> None:
    async def scenario() -> None:
        async with talking(always(NO_HTTP[name], pause=0.0005), connections=1) as client:
            exchange = await client.send()
            with pytest.raises(ProtocolError):
                await exchange.head(until())

    run(scenario())


NO_BODY = {
    "a chunk's size": CHUNKED + b"zz\r\n",
    "a chunk without end": CHUNKED + b"2\r\nheXX",
    "a long extension": CHUNKED + b"2;" + b"a" * 32 * MAX_HEAD_BYTES,
    "a coding in a trailer": CHUNKED + b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a length in a trailer": CHUNKED + b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    "a long trailer": CHUNKED + b"2\r\nhe\r\n0\r\nX: " + b"a" * 32 * MAX_HEAD_BYTES,
}


@pytest.mark.parametrize("response", NO_BODY.values(), ids=NO_BODY)
def test_invalid_body_raises_protocol_error(run: Run, response: bytes) -> None:
    async def scenario() -> None:
        async with talking(always(response), connections=1) as client:
            for _ in range(2):
                exchange = await client.send()
                with pytest.raises(ProtocolError):  # with the head or after it, whichever read it arrives in
                    await whole(exchange)

    run(scenario())


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (b"", ConnectionLost),
        (b"HTTP/1.1 2", ConnectionLost),
        (b"HTTP/1.1 100 Continue\r\n\r\n", ConnectionLost),
        (OK + b"X: y\r\n", ConnectionLost),
        (OK + b"Content-Length: 5\r\n\r\nhell", IncompleteResponse),
        (CHUNKED, IncompleteResponse),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", IncompleteResponse),
    ],
)
def test_early_connection_end_raises_error(run: Run, response: bytes, error: type[TransportError]) -> None:
    async def scenario() -> None:
        async with talking(once(response)) as client:
            exchange = await client.send()
            with pytest.raises(error):
                await whole(exchange)

    run(scenario())


def test_received_bytes_are_read_before_error(run: Run) -> None:
    async def scenario() -> None:
        async with talking(once(OK + b"Content-Length: 9\r\n\r\nhello")) as client:
            exchange = await client.ask()
            await asyncio.sleep(0.05)  # the end of the connection is known by then
            assert await exchange.read(until()) == b"hello"
            for _ in range(2):
                with pytest.raises(IncompleteResponse):
                    await exchange.read(until())

    run(scenario())


@pytest.mark.parametrize("surplus", [b"x", sized(b"more"), b"HTTP/1.1 200 OK\r\nContent-Le"], ids=["x", "two", "half"])
@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
def test_surplus_bytes_close_connection(run: Run, surplus: bytes, later: bool) -> None:
    """Bytes that a server sent without a request never become the next response."""
    was_read, sent = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(sized(b"hello") + (b"" if later else surplus))
        await was_read.wait()
        if later:
            writer.write(surplus)
        sent.set()
        await reader.read()

    async def scenario() -> None:
        async with talking(serve) as client:
            for _ in range(2):
                was_read.clear()
                sent.clear()
                assert await client.body() == b"hello"
                was_read.set()
                await sent.wait()
                for _ in range(3):  # the loop polls its sockets in between
                    await asyncio.sleep(0.001)
            assert client.pool.made == 2

    run(scenario())


def test_early_response_closes_connection(run: Run) -> None:
    """Its rest would be read as the next request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sized(b"too large"))
        await asyncio.sleep(1)

    async def scenario() -> None:
        async with talking(serve) as client:
            exchange = await client.ask(b"x" * 32 * 1024 * 1024)
            assert await read(exchange) == b"too large"
            assert await read(await client.ask()) == b"too large"
            assert client.pool.made == 2

    run(scenario())


def test_slow_reader_pauses_sender_without_loss(run: Run) -> None:
    size, written = 64 * HIGH_WATER, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        while True:
            await read_request(reader)
            writer.write(OK + b"Content-Length: %d\r\n\r\n" % size)
            for _ in range(64):
                writer.write(b"x" * HIGH_WATER)
                await writer.drain()
                written += HIGH_WATER

    async def scenario() -> None:
        nonlocal written
        async with talking(serve, connections=1) as client:
            for _ in range(2):
                written = 0
                exchange = await client.ask()
                before = -1
                while written != before:
                    before = written
                    await asyncio.sleep(0.1)
                assert before < size
                assert len(await read(exchange)) == size
            assert client.pool.made == 1

    run(scenario())


def test_read_timeout_allows_another_read(run: Run) -> None:
    go_on = asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for part in (OK + b"Content-Length: 2\r\n\r\na", b"b"):
            await go_on.acquire()
            writer.write(part)
        await reader.read()

    async def scenario() -> None:
        async with talking(serve) as client:
            exchange = await client.send()
            with pytest.raises(TimeoutError):
                await exchange.head(until(0.02))
            go_on.release()
            await exchange.head(until())
            assert await exchange.read(until()) == b"a"
            with pytest.raises(TimeoutError):
                await exchange.read(until(0.02))
            go_on.release()
            assert await read(exchange) == b"b"

    run(scenario())
