"""Events to a client: silence, slowness, and leaving."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message

from apps.platform_api.byte_stream import SEND_TIMEOUT_SECONDS
from apps.platform_api.disconnect import ClientDisconnected
from apps.platform_api.sse import event, open_event_stream
from platform_app.errors import ProviderTimeout
from tests.support.virtual_time import now, virtual_time


class Client:
    """Takes what is sent, unless `stuck`; leaves when told."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.stuck = False
        self.messages: list[Message] = []

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        self.messages.append(message)

    @property
    def text(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


class Events:
    """A generator of events with a pause before each; notes whether it was closed."""

    def __init__(self, *events: bytes | Exception, pause: float = 0.0) -> None:
        self._events = events
        self._pause = pause
        self.closed = False
        self.asked = 0

    async def run(self) -> AsyncGenerator[bytes, None]:
        try:
            for each in self._events:
                self.asked += 1
                await asyncio.sleep(self._pause)
                if isinstance(each, Exception):
                    raise each
                yield each
        finally:
            self.closed = True


@pytest.fixture
def client() -> Client:
    return Client()


async def serve(client: Client, events: Events) -> None:
    stream = await open_event_stream(events.run(), client.receive)
    await stream({"type": "http"}, client.receive, client.send)


def test_an_event_is_one_line_of_data() -> None:
    assert event("delta", {"content": "a\nb\r\u2028"}) == (
        b'event: delta\ndata: {"content":"a\\nb\\r\xe2\x80\xa8"}\n\n'
    )


@virtual_time
async def test_events_are_sent_as_they_come(client: Client) -> None:
    events = Events(b"one", b"two", b"three")
    await serve(client, events)
    start, *bodies = client.messages
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    headers = dict(start["headers"])
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert headers[b"cache-control"] == b"no-cache, no-store, no-transform"
    assert headers[b"x-accel-buffering"] == b"no"
    assert [(body["body"], body["more_body"]) for body in bodies] == [
        (b"one", True), (b"two", True), (b"three", True), (b"", False),
    ]  # fmt: skip
    assert events.closed


@virtual_time
async def test_an_error_before_the_first_event_keeps_its_status(client: Client) -> None:
    events = Events(ProviderTimeout("slow"))
    with pytest.raises(ProviderTimeout):
        await open_event_stream(events.run(), client.receive)
    assert events.closed
    assert client.messages == []


@virtual_time
async def test_a_client_that_leaves_before_the_first_event_closes_the_source(client: Client) -> None:
    events = Events(b"one", pause=60)
    task = asyncio.create_task(open_event_stream(events.run(), client.receive))
    await asyncio.sleep(1)
    client.gone.set()
    started = now()
    with pytest.raises(ClientDisconnected):
        await task
    assert now() == started
    assert events.closed


@virtual_time
async def test_a_client_that_leaves_closes_the_source_at_once(client: Client) -> None:
    events = Events(b"one", b"two", pause=10)
    stream = await open_event_stream(events.run(), client.receive)
    client.gone.set()
    started = now()
    with pytest.raises(ClientDisconnected):
        await stream({"type": "http"}, client.receive, client.send)
    assert now() == started
    assert events.closed
    assert b"two" not in client.text


@virtual_time
async def test_an_answer_that_is_cancelled_closes_the_source(client: Client) -> None:
    events = Events(b"one", *[b"more"] * 1000, pause=1)
    task = asyncio.create_task(serve(client, events))
    await asyncio.sleep(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events.closed


@virtual_time
async def test_silence_is_bridged_with_comments(client: Client) -> None:
    await serve(client, Events(b"one", b"two", pause=50))
    assert client.text == b"one" + b": keep-alive\n\n" * 3 + b"two", "after 15, 30 and 45 seconds"
    assert client.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


@virtual_time
async def test_while_events_come_there_are_no_comments(client: Client) -> None:
    await serve(client, Events(*[b"x"] * 20, pause=14))
    assert client.text == b"x" * 20


@virtual_time
async def test_no_comment_follows_the_end(client: Client) -> None:
    await serve(client, Events(b"one"))
    count = len(client.messages)
    await asyncio.sleep(100)
    assert len(client.messages) == count


@pytest.mark.parametrize("when", ["at the start", "in the middle"])
@virtual_time
async def test_a_client_that_takes_nothing_is_gone(client: Client, when: str) -> None:
    """Not a failure of ours: it ends like a client that hung up."""
    events = Events(b"one", *[b"more"] * 100, pause=1)
    stream = await open_event_stream(events.run(), client.receive)
    client.stuck = when == "at the start"
    task = asyncio.create_task(stream({"type": "http"}, client.receive, client.send))
    await asyncio.sleep(5)
    client.stuck = True
    started = now()
    with pytest.raises(ClientDisconnected):
        await task
    assert SEND_TIMEOUT_SECONDS - 5 <= now() - started <= SEND_TIMEOUT_SECONDS + 1
    assert events.closed
    await asyncio.sleep(100)


@virtual_time
async def test_waiting_for_the_next_event_is_no_slow_client(client: Client) -> None:
    await serve(client, Events(b"one", b"two", pause=3 * SEND_TIMEOUT_SECONDS))
    assert client.text.replace(b": keep-alive\n\n", b"") == b"onetwo"


@virtual_time
async def test_a_slow_client_slows_the_source_down(client: Client) -> None:
    events = Events(*[b"x"] * 1000)
    stream = await open_event_stream(events.run(), client.receive)
    client.stuck = True
    task = asyncio.create_task(stream({"type": "http"}, client.receive, client.send))
    await asyncio.sleep(1)
    assert events.asked <= 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
