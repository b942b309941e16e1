"""Streams under an Idempotency-Key: which are stored, and which continue without their client."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from apps.platform_api.http.disconnect import ClientDisconnected, DisconnectSignal
from apps.platform_api.http.streaming import EVENT_STREAM, ByteStream, open_byte_stream
from platform_app.errors import (
    IdempotencyInFlight,
)
from tests.support.idempotency.route import DONE, Route, events, streaming


async def test_stream_is_stored_before_its_last_event(route: Route) -> None:
    response = await route.ask(streaming(route, b"data: 1\n\n", b"data: 2\n\n", DONE), "one")
    assert isinstance(response, ByteStream)
    route.client.leaves_at = DONE  # hangs up in the middle of the last event
    with pytest.raises(ClientDisconnected):
        await route.send(response)
    (kept,) = route.kept
    assert kept.body == b"data: 1\n\ndata: 2\n\n" + DONE
    again = await route.ask(streaming(route, DONE), "one")
    assert route.worked == 1
    assert again.body == kept.body
    assert (b"content-type", b"text/event-stream; charset=utf-8") in again.raw_headers


async def test_stream_of_one_event_is_stored(route: Route) -> None:
    response = await route.ask(streaming(route, DONE), "one")
    await route.send(response)
    assert [stored.body for stored in route.kept] == [DONE]


@pytest.mark.parametrize("name", ["response.completed", "response.incomplete", "message_stop", "done"])
async def test_last_event_behind_others_is_found(route: Route, name: str) -> None:
    """A contract may write its last events as one chunk."""
    last = b"event: response.output_item.done\ndata: {}\n\nevent: %b\ndata: {}\n\n" % name.encode()
    response = await route.ask(streaming(route, b"data: 1\n\n", last), "one")
    await route.send(response)
    assert [stored.body for stored in route.kept] == [b"data: 1\n\n" + last]


@pytest.mark.parametrize("name", ["response.failed", "error"])
async def test_failure_behind_other_events_frees_the_key(route: Route, name: str) -> None:
    last = b"event: response.output_item.done\ndata: {}\n\nevent: %b\ndata: {}\n\n" % name.encode()
    response = await route.ask(streaming(route, b"data: 1\n\n", last), "one")
    await route.send(response)
    assert route.store.records == {}


@pytest.mark.parametrize("at", [b"data: 1\n\n", b"data: 2\n\n"])
async def test_stream_continues_without_its_client(route: Route, at: bytes) -> None:
    """Also where it leaves while the first chunk is sent; its request is counted until the work ends."""
    may_end = asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        yield b"data: 2\n\n"
        await may_end.wait()
        yield DONE

    response = await route.ask(lambda: open_byte_stream(source(), DisconnectSignal(), EVENT_STREAM), "one")
    assert route.held
    route.client.leaves_at = at
    with pytest.raises(ClientDisconnected):
        await route.send(response)
    assert (route.held, route.server.in_flight, len(route.server.tasks)) == (True, 1, 1)
    may_end.set()
    await asyncio.wait(route.server.tasks)
    assert [stored.body for stored in route.kept] == [b"data: 1\n\ndata: 2\n\n" + DONE]
    await asyncio.sleep(0)
    assert (route.server.in_flight, route.server.tasks) == (0, set())


async def test_stream_without_a_client_is_not_slowed_down(route: Route) -> None:
    """More chunks than the queue between work and client holds."""
    chunks = [b"data: %d\n\n" % number for number in range(50)]
    response = await route.ask(streaming(route, *chunks, DONE), "one")
    route.client.leaves_at = chunks[0]
    with pytest.raises(ClientDisconnected):
        await route.send(response)
    await asyncio.wait(route.server.tasks)
    assert [stored.body for stored in route.kept] == [b"".join(chunks) + DONE]


async def test_stream_too_large_to_store_ends_with_client(route: Route) -> None:
    chunks = [b"data: %d %b\n\n" % (number, b"x" * 300) for number in range(50)]
    source = events(*chunks, DONE)
    response = await route.ask(lambda: open_byte_stream(source, DisconnectSignal(), EVENT_STREAM), "one")
    route.client.leaves_at = chunks[5]
    with pytest.raises(ClientDisconnected):
        await route.send(response)
    await asyncio.wait(route.server.tasks)
    assert route.store.records == {}
    with pytest.raises(StopAsyncIteration):  # and the source is closed
        await anext(source)


@pytest.mark.parametrize("end", [b'data: {"error":{}}\n\n', b"event: error\ndata: {}\n\n", RuntimeError("a bug")])
async def test_failed_stream_frees_the_key(route: Route, end: bytes | Exception) -> None:
    response = await route.ask(streaming(route, b"data: 1\n\n", end), "one")
    await asyncio.gather(route.send(response), return_exceptions=True)
    assert route.store.records == {}
    assert route.store.steps == ["begin", "release"]


async def test_end_marker_inside_an_event_is_ignored(route: Route) -> None:
    response = await route.ask(streaming(route, b'data: {"content":"data: [DONE]\\n"}\n\n', b"data: x\n\n"), "one")
    await route.send(response)
    assert route.store.records == {}


async def test_stream_above_the_bound_is_sent_not_stored(route: Route) -> None:
    chunks = [b"data: %b\n\n" % (b"x" * 300)] * 10
    response = await route.ask(streaming(route, *chunks, DONE), "one")
    assert isinstance(response, ByteStream)
    await route.send(response)
    assert route.client.body == b"".join(chunks) + DONE
    (record,) = route.store.records.values()
    assert (record.owner, record.response) == (None, b"")


async def test_second_request_during_a_stream_is_refused(route: Route) -> None:
    response = await route.ask(streaming(route, b"data: 1\n\n", DONE), "one")
    with pytest.raises(IdempotencyInFlight):
        await route.ask(streaming(route, DONE), "one")
    await route.send(response)
    assert len(route.kept) == 1
