"""Server-sent events to the client (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from starlette.types import Receive, Send

from apps.platform_api.http.disconnect import cancel_on_disconnect
from apps.platform_api.http.streaming.byte_stream import ByteStream, stream_headers
from apps.platform_api.http.streaming.stream_head import StreamHead
from platform_app.errors import PlatformError
from platform_app.llm.codecs import lenient_json

CONTENT_TYPE = b"text/event-stream; charset=utf-8"
KEEP_ALIVE = b": keep-alive\n"
"""A comment line alone. With an empty line behind it OpenAI's Go client before v3.44 takes it for an event without
data, and fails."""
Opening = Callable[[], Awaitable[AsyncGenerator[bytes, None]]]
"""Returns the events of a stream that has begun. A failure before the first of them is raised, by itself or by them."""
Failure = Callable[[PlatformError], bytes]
"""The event that ends a stream which failed."""


def event(name: str, data: Mapping[str, object]) -> bytes:
    """One event; JSON has no raw line feeds, so the data is one line. Raises ValueError where it is no JSON."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), lenient_json.dumps(data))


async def open_event_stream(
    opening: Opening, failure: Failure, receive: Receive, send: Send, seconds: float
) -> ByteStream:
    """The response that sends the events, with a comment line after each `seconds` without any.

    Waits for the first event, so that an early failure keeps its status. If that takes longer than `seconds`, the head
    and a comment are sent meanwhile: then a failure becomes an event.

    Raises:
        PlatformError: there is no first event, and the head was not sent.
        ClientDisconnected: the client left before the first event.
    """
    head = StreamHead(send, stream_headers(CONTENT_TYPE), KEEP_ALIVE, seconds)
    events: AsyncGenerator[bytes, None] | None = None

    async def first_event() -> bytes:
        nonlocal events
        events = await opening()
        return await anext(events)

    head.watch()
    try:
        first = await cancel_on_disconnect(receive, first_event())
    except BaseException as error:
        if events is not None:
            await events.aclose()
        if not (head.started and isinstance(error, PlatformError)):
            head.close()
            raise
        return ByteStream(failure(error), _nothing(), CONTENT_TYPE, head)
    finally:
        head.unwatch()
    assert events is not None  # noqa: S101 - for mypy: its first event is there
    return ByteStream(first, events, CONTENT_TYPE, head)


async def _nothing() -> AsyncGenerator[bytes, None]:
    """The events of a stream that has ended with its first."""
    events: tuple[bytes, ...] = ()
    for each in events:
        yield each
