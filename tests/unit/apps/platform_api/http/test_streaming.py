"""Streams to a client that is idle, slow, or disconnects."""

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace

import pytest
from starlette.types import Message

from apps.platform_api.http.disconnect import ClientDisconnected, ReceiveSignal
from apps.platform_api.http.streaming import KEEP_ALIVE, SEND_TIMEOUT_SECONDS, ByteStream, event, open_event_stream
from platform_app.errors import PlatformError, ProviderTimeout
from tests.support.timing.virtual_time import now, virtual_time

SECONDS = 15.0
"""PLATFORM_STREAM_KEEP_ALIVE_SECONDS."""


class Client:
    """Reads what is sent, unless `stuck`; disconnects when `gone` is set."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.signal = ReceiveSignal(self.receive)
        self.stuck = False
        self.slow = 0.0
        self.messages: list[Message] = []

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        if self.slow:
            await asyncio.sleep(self.slow)
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


async def opened(
    client: Client, events: Events, opening: float = 0.0, failure: PlatformError | None = None
) -> ByteStream:
    """The response, whose opening takes so long or fails."""

    async def open_events() -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(opening)
        if failure is not None:
            raise failure
        return events.run()

    return await open_event_stream(
        open_events, lambda error: b"failed: %b\n\n" % error.code.encode(), client.signal, client.send, SECONDS
    )


async def serve(client: Client, events: Events, opening: float = 0.0, failure: PlatformError | None = None) -> None:
    stream = await opened(client, events, opening, failure)
    await stream({"type": "http"}, client.receive, client.send)


def test_event_data_is_one_line() -> None:
    assert event("delta", {"content": "a\nb\r\u2028"}) == (
        b'event: delta\ndata: {"content":"a\\nb\\r\xe2\x80\xa8"}\n\n'
    )


@virtual_time
async def test_events_are_sent_in_order(client: Client) -> None:
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
async def test_error_before_first_event_keeps_its_status(client: Client) -> None:
    events = Events(ProviderTimeout("slow"))
    with pytest.raises(ProviderTimeout):
        await opened(client, events)
    assert events.closed
    assert client.messages == []


@virtual_time
async def test_disconnect_before_first_event_closes_source(client: Client) -> None:
    events = Events(b"one", pause=60)
    task = asyncio.create_task(opened(client, events))
    await asyncio.sleep(1)
    client.gone.set()
    started = now()
    with pytest.raises(ClientDisconnected):
        await task
    assert now() == started
    assert events.closed


@virtual_time
async def test_disconnect_closes_source_at_once(client: Client) -> None:
    events = Events(b"one", b"two", pause=10)
    stream = await opened(client, events)
    client.gone.set()
    started = now()
    with pytest.raises(ClientDisconnected):
        await stream({"type": "http"}, client.receive, client.send)
    assert now() == started
    assert events.closed
    assert b"two" not in client.text


@virtual_time
async def test_cancelled_response_closes_source(client: Client) -> None:
    events = Events(b"one", *[b"more"] * 1000, pause=1)
    task = asyncio.create_task(serve(client, events))
    await asyncio.sleep(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events.closed


def test_comment_is_one_line() -> None:
    """Kind 12: an empty line behind it is an event without data to OpenAI's Go client before v3.44."""
    assert KEEP_ALIVE == b": keep-alive\n"


@virtual_time
async def test_idle_stream_sends_comments(client: Client) -> None:
    await serve(client, Events(b"one", b"two", b"three", pause=50))
    silence = KEEP_ALIVE * 3
    assert client.text == silence + b"one" + silence + b"two" + silence + b"three", "after 15, 30 and 45 seconds"
    assert client.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


@virtual_time
async def test_head_is_sent_before_a_late_first_event(client: Client) -> None:
    """Kind 13: once, with a comment, and before the opening has an outcome."""
    task = asyncio.create_task(serve(client, Events(b"one"), opening=2 * SECONDS + 1))
    await asyncio.sleep(SECONDS - 0.1)
    assert client.messages == []
    await asyncio.sleep(0.2)
    assert [message["type"] for message in client.messages] == ["http.response.start", "http.response.body"]
    assert client.text == KEEP_ALIVE
    await task
    assert [message["type"] for message in client.messages].count("http.response.start") == 1
    assert client.text == KEEP_ALIVE * 2 + b"one"


@pytest.mark.parametrize("late", ["the opening", "the first event"])
@virtual_time
async def test_failure_after_early_head_becomes_event(client: Client, late: str) -> None:
    """Kind 13."""
    if late == "the opening":
        await serve(client, Events(), opening=SECONDS + 1, failure=ProviderTimeout("slow"))
    else:
        events = Events(ProviderTimeout("slow"), pause=SECONDS + 1)
        await serve(client, events)
        assert events.closed
    assert client.text == KEEP_ALIVE + b"failed: provider_timeout\n\n"
    assert client.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    count = len(client.messages)
    await asyncio.sleep(100)
    assert len(client.messages) == count


@virtual_time
async def test_failure_before_early_head_keeps_its_status(client: Client) -> None:
    with pytest.raises(ProviderTimeout):
        await opened(client, Events(), opening=SECONDS - 0.01, failure=ProviderTimeout("slow"))
    await asyncio.sleep(100)
    assert client.messages == []


@virtual_time
async def test_disconnect_while_opening_stops_comments(client: Client) -> None:
    task = asyncio.create_task(opened(client, Events(), opening=1000))
    await asyncio.sleep(SECONDS + 1)
    client.gone.set()
    with pytest.raises(ClientDisconnected):
        await task
    await asyncio.sleep(100)
    assert client.text == KEEP_ALIVE


@virtual_time
async def test_unsent_stream_sends_no_comments(client: Client) -> None:
    """The client disconnected before the response was sent, and the work continues under an Idempotency-Key."""
    stream = await opened(client, Events(b"one", b"two", pause=1))
    await asyncio.sleep(100)
    assert client.messages == []
    await stream.chunks.aclose()


@virtual_time
async def test_first_event_waits_for_the_comment(client: Client) -> None:
    """The first event comes while a slow client has not taken the head yet: nothing overtakes it."""
    client.slow = 2.0
    await serve(client, Events(b"one"), opening=SECONDS + 1)
    assert [message["type"] for message in client.messages][:2] == ["http.response.start", "http.response.body"]
    assert client.text == KEEP_ALIVE + b"one"


@virtual_time
async def test_busy_stream_sends_no_comments(client: Client) -> None:
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
async def test_client_that_reads_nothing_is_disconnected(client: Client, when: str) -> None:
    """Not a failure of ours: it ends like a client that hung up."""
    events = Events(b"one", *[b"more"] * 100, pause=1)
    stream = await opened(client, events)
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
async def test_setting_lengthens_the_time_for_a_slow_client(client: Client) -> None:
    stream = await opened(client, Events(b"one", *[b"more"] * 100, pause=1))
    resources = SimpleNamespace(settings=SimpleNamespace(write_timeout_seconds=10 * SEND_TIMEOUT_SECONDS))
    task = asyncio.create_task(stream({"type": "http", "state": {"resources": resources}}, client.receive, client.send))
    client.stuck = True
    started = now()
    with pytest.raises(ClientDisconnected):
        await task
    assert now() - started >= 10 * SEND_TIMEOUT_SECONDS - 5


@virtual_time
async def test_idle_provider_is_not_a_slow_client(client: Client) -> None:
    await serve(client, Events(b"one", b"two", pause=3 * SEND_TIMEOUT_SECONDS))
    assert client.text.replace(KEEP_ALIVE, b"") == b"onetwo"


@virtual_time
async def test_slow_client_slows_the_source_down(client: Client) -> None:
    events = Events(*[b"x"] * 1000)
    stream = await opened(client, events)
    client.stuck = True
    task = asyncio.create_task(stream({"type": "http"}, client.receive, client.send))
    await asyncio.sleep(1)
    assert events.asked <= 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
