"""The pool: how many connections, for how long, and which caller gets one."""

import asyncio
import secrets
import socket
import struct

import pytest
from structlog.testing import capture_logs

from platform_app.llm.http.transport.connection import Connection
from platform_app.llm.http.transport.errors import ConnectionLost, ConnectTimeout, IncompleteResponse
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.http.transport.target import Address, target_of
from platform_app.observability import metrics
from tests.integration.providers.transport.conftest import Run
from tests.support.fakes.core import Count
from tests.support.providers.transport import OK, Client, always, read, sized, talking, until
from tests.support.servers.network.ports import free_port
from tests.support.servers.network.tcp import read_request

HELLO = sized(b"hello")


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begin a response and never end it, until the client closes the connection."""
    await read_request(reader)
    writer.write(OK + b"Content-Length: 5\r\n\r\nhe")
    await reader.read()


def test_pool_limit_holds_and_every_waiter_is_served(run: Run) -> None:
    now = most = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        while True:
            await read_request(reader)
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.001)
            now -= 1
            writer.write(HELLO)

    async def scenario() -> None:
        async with talking(serve, connections=3) as client:
            assert await asyncio.gather(*(client.body() for _ in range(60))) == [b"hello"] * 60
            assert client.pool.made == most == 3

    run(scenario())


def test_connection_that_opens_as_its_caller_leaves_is_forgotten(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop does not report the loss of a connection to a caller that was cancelled when it was just made."""

    async def scenario() -> None:
        async with talking(always(HELLO)) as client:
            loop, made = asyncio.get_running_loop(), Connection.connection_made

            def make_and_cancel(self: Connection, transport: asyncio.BaseTransport) -> None:
                made(self, transport)
                loop.call_soon(task.cancel)

            with monkeypatch.context() as patch:
                patch.setattr(Connection, "connection_made", make_and_cancel)
                task = asyncio.create_task(client.send())
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert await client.body() == b"hello"
            in_use, idle = client.pool.connections_by_host()
            assert (in_use.total(), idle.total()) == (0, 1)

    run(scenario())


def test_wait_for_connection_times_out(run: Run) -> None:
    async def scenario() -> None:
        async with talking(hang, connections=1) as client:
            holds = await client.ask()
            with pytest.raises(ConnectTimeout):
                await client.send(connect_seconds=0.05)
            holds.close()
            (await client.ask()).close()

    run(scenario())


def test_cancelled_waiter_leaves_place_to_next(run: Run) -> None:
    async def scenario() -> None:
        async with talking(hang, connections=1) as client:
            holds = await client.ask()
            waits = [asyncio.ensure_future(client.ask()) for _ in range(3)]
            await asyncio.sleep(0.02)
            waits[0].cancel()
            holds.close()
            waits[1].cancel()  # possibly its turn has just come
            exchange = await asyncio.wait_for(waits[2], 300)
            exchange.close()
            await asyncio.gather(*waits, return_exceptions=True)
            (await client.ask()).close()

    run(scenario())


def test_failed_connect_is_freed_counted_and_logged(run: Run) -> None:
    port = free_port()

    async def scenario() -> None:
        pool = ConnectionPool(1)
        client = Client(pool, target_of(f"http://127.0.0.1:{port}/"))
        for _ in range(3):
            with pytest.raises(ConnectionLost) as caught:
                await client.send()
            assert isinstance(caught.value.__cause__, OSError)
        assert pool.made == 0
        await pool.aclose()

    failed = Count("platform_provider_connections_total", host="127.0.0.1", outcome="failed")
    with capture_logs() as lines:
        run(scenario())
    assert failed.grown == 3
    (line,) = lines  # one a second
    assert (line["event"], line["host"], line["port"]) == ("provider_connection_failed", "127.0.0.1", port)
    assert line["error"] == "ConnectionRefusedError"
    assert line["why"].startswith("it refuses connections; check that it runs")


def test_opened_connections_are_counted(run: Run) -> None:
    async def scenario() -> None:
        async with talking(hang, connections=1) as client:
            holds = await client.ask()
            with pytest.raises(ConnectTimeout):
                await client.send(connect_seconds=0.02)
            holds.close()

    made, late = (
        Count("platform_provider_connections_total", host="127.0.0.1", outcome=outcome)
        for outcome in ("made", "timed_out")
    )
    run(scenario())
    assert (made.grown, late.grown) == (1, 1)


def test_hosts_first_connection_creates_all_outcomes(run: Run) -> None:
    """`rate` does not see a series that appears: the first failures of a host would raise nothing."""
    host = f"{secrets.token_hex(8)}.localhost"

    async def scenario() -> None:
        pool = ConnectionPool(1)
        with pytest.raises(ConnectionLost):
            await pool.send(Address(host, 9, False), b"", b"", until())
        await pool.aclose()

    run(scenario())
    found = {
        sample.labels["outcome"]: sample.value
        for metric in metrics.PROVIDER_CONNECTIONS.collect()
        for sample in metric.samples
        if sample.labels["host"] == host and sample.name.endswith("_total")
    }
    assert found == {"made": 0.0, "failed": 1.0, "timed_out": 0.0, "proxy_refused": 0.0}


def test_invalid_host_name_raises_connection_lost(run: Run) -> None:
    async def scenario() -> None:
        pool = ConnectionPool(1)
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                await pool.send(Address("a" * 70 + ".example", 80, False), b"", b"", until())
        await pool.aclose()

    run(scenario())


def test_connect_times_out(run: Run) -> None:
    """A listener that accepts nothing and whose backlog is full never responds."""

    async def scenario() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            pool = ConnectionPool(1)
            client = Client(pool, target_of(f"http://127.0.0.1:{listener.getsockname()[1]}/"))
            for _ in range(2):
                with pytest.raises(ConnectTimeout):
                    await client.send(connect_seconds=0.1)
            await pool.aclose()
            for filler in fillers:
                filler.close()

    run(scenario())


def test_next_address_is_tried_after_refusal(run: Run) -> None:
    """`localhost` is also ::1 on most machines, where no server listens here."""

    async def scenario() -> None:
        async with talking(always(HELLO)) as client:
            other = Client(client.pool, target_of(f"http://localhost:{client.target.address.port}/"))
            for _ in range(3):
                exchange = await other.ask()
                assert await read(exchange) == b"hello"
            assert client.pool.made == 1

    run(scenario())


def test_connection_is_reused_for_same_address_only(run: Run) -> None:
    async def scenario() -> None:
        async with talking(always(HELLO)) as one, talking(always(sized(b"other"))) as two:
            client = Client(one.pool, two.target)
            assert [await one.body(), await client.body(), await one.body()] == [b"hello", b"other", b"hello"]
            assert one.pool.made == 2

    run(scenario())


def test_idle_connection_is_closed_after_keep_time(run: Run) -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await always(HELLO)(reader, writer)
        finally:
            closed.set()

    async def scenario() -> None:
        async with talking(serve, keep_seconds=2) as client:
            for _ in range(3):
                assert await client.body() == b"hello"
                await asyncio.sleep(0.02)
            assert client.pool.made == 1
            await asyncio.wait_for(closed.wait(), 60)
            assert await client.body() == b"hello"
            assert client.pool.made == 2

    run(scenario())


def test_connection_closed_by_server_is_not_reused(run: Run) -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HELLO)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async def scenario() -> None:
        async with talking(serve) as client:
            for _ in range(3):
                assert await client.body() == b"hello"
                await closed.wait()
                closed.clear()
                for _ in range(3):  # the loop polls its sockets in between
                    await asyncio.sleep(0.001)
            assert client.pool.made == 3

    run(scenario())


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_server_closing_at_once_leaks_no_connection(run: Run, reset: bool) -> None:
    """Every place is free again: as many requests as the pool has connections succeed at the same time."""
    hangs_up = True

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not hangs_up:
            await read_request(reader)
            await both.wait()
            writer.write(HELLO)
            await writer.drain()
            return
        if reset:
            accepted: socket.socket = writer.get_extra_info("socket")
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    both = asyncio.Barrier(2)

    async def scenario() -> None:
        nonlocal hangs_up
        async with talking(serve, connections=2) as client:
            for result in await asyncio.gather(*(client.ask() for _ in range(100)), return_exceptions=True):
                assert isinstance(result, ConnectionLost)
            hangs_up = False
            assert list(await asyncio.gather(client.body(), client.body())) == [b"hello", b"hello"]

    run(scenario())


def test_closing_response_closes_connection(run: Run) -> None:
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await hang(reader, writer)
        finally:
            left.set()

    async def scenario() -> None:
        async with talking(serve, connections=1) as client:
            exchange = await client.ask()
            reading = asyncio.ensure_future(read(exchange))
            await asyncio.sleep(0.02)
            exchange.close()
            exchange.close()
            await asyncio.wait_for(left.wait(), 60)
            with pytest.raises(ConnectionLost):
                await reading
            assert not exchange.complete

    run(scenario())


def test_closing_complete_response_keeps_connection(run: Run) -> None:
    async def scenario() -> None:
        async with talking(always(HELLO), connections=1) as client:
            for _ in range(3):
                exchange = await client.ask()
                while not exchange.complete:
                    await asyncio.sleep(0.001)
                exchange.close()
            assert client.pool.made == 1

    run(scenario())


def test_closing_pool_closes_all_connections(run: Run) -> None:
    async def scenario() -> None:
        async with talking(hang, connections=4) as client:
            exchanges = [await client.ask() for _ in range(3)]
            await client.pool.aclose()
            for exchange in exchanges:
                with pytest.raises(IncompleteResponse):
                    await read(exchange)
            with pytest.raises(ConnectionLost):
                await client.send()
            assert client.pool.made == 3

    run(scenario())
