"""Server-sent events to the client (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from collections.abc import AsyncGenerator, Mapping

from starlette.types import Receive

from apps.platform_api.byte_stream import ByteStream, open_byte_stream
from platform_app.llm import lenient_json

CONTENT_TYPE = b"text/event-stream; charset=utf-8"
KEEP_ALIVE = b": keep-alive\n\n"


def event(name: str, data: Mapping[str, object]) -> bytes:
    """One event; JSON has no raw line feeds, so the data is one line. Raises ValueError where it is no JSON."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), lenient_json.dumps(data))


async def open_event_stream(events: AsyncGenerator[bytes, None], receive: Receive) -> ByteStream:
    """The answer that sends these events, with a comment line every 15 s of silence. See open_byte_stream."""
    return await open_byte_stream(events, receive, CONTENT_TYPE, KEEP_ALIVE)
