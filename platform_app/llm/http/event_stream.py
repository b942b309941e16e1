"""Read a provider's response as a stream of chunks while its events arrive, or as a whole.

EventChunks is a class and not an async generator. The connection must also be released if the stream fails or is
cancelled before its first chunk, or is closed while a task waits for the next one. A generator that was not closed
releases it only when it is garbage collected.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from platform_app.llm import errors
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.http.response import ProviderResponse
from platform_app.llm.http.sse import BOM, MAX_EVENT_BYTES, EventTooLarge, SseParser
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.stream_conversion import assemble_response, split_into_chunks

MAX_BUFFERED_CHUNKS = 256
MAX_BUFFERED_BYTES = 64 * 1024
"""The size of chunks without content that are buffered (docs/adr/0026). Beyond it the stream is passed on unchanged."""
_FIELDS = (b"data", b"event", b"id", b"retry", b":", b"error")
UNCOUNTED_BYTES = MAX_EVENT_BYTES
"""A whole response up to this size is parsed without counting its objects and lists."""
MAX_CONTAINERS = 2_000_000
"""The objects and lists in a whole response: they decide the memory and the time that parsing takes, not the bytes."""
_LEADING = re.compile(rb"\s*(?:%b)?(?:\s|:[^\n]*(?:\n|\Z))*" % BOM)
_DONE = re.compile(rb"\s*data:\s*\[DONE\]\s*\Z")
_DONE_BYTES = 64
_SNIFF_BYTES = 6
"""The number of bytes that show whether a body is JSON or events."""


class EventDecoder(Protocol):
    """Decodes the events of one wire format. There is one for each stream."""

    complete: bool
    """Whether the provider has sent the last event."""

    @property
    def trailing(self) -> ChatChunk | None:
        """One more chunk, behind that of the last event; read once the response is `complete`."""
        ...

    def decode(self, data: bytes) -> ChatChunk | None:
        """Return the chunk of an event, or None if it has none. Raises ProviderFailed or RequestRefused if the event is
        an error or is invalid."""
        ...

    def finish(self) -> None:
        """Handle a body that ended before the response was `complete`. Raises ProviderBadResponse if the format does
        not allow that."""
        ...


@dataclass(frozen=True, slots=True)
class ResponseReader:
    """How the responses of one wire format are read."""

    read_whole: Callable[[bytes], ModelResponse]
    """Decodes a whole response. Raises ProviderFailed or RequestRefused."""
    make_decoder: Callable[[], EventDecoder]
    split: Callable[[ModelResponse], list[ChatChunk]] = split_into_chunks
    """Converts a whole response to the chunks of a stream."""
    assemble: Callable[[Iterable[ChatChunk]], ModelResponse | None] = assemble_response
    """Converts the chunks of a stream to a whole response; None if they have no response."""


async def open_stream(response: ProviderResponse, reader: ResponseReader) -> ChunkStream:
    """Return the stream of a response once its first content has arrived. If the provider fails before, raise its error
    and close the response.

    Chunks without content are buffered until then, so that a failure before the first content can still be retried or
    fall back. A whole response is converted to a stream.
    """
    chunks = EventChunks(response, reader)
    buffered: list[ChatChunk] = []
    size = 0
    try:
        while len(buffered) < MAX_BUFFERED_CHUNKS and size < MAX_BUFFERED_BYTES:
            chunk = await anext(chunks)
            buffered.append(chunk)
            if chunk.carries_content:
                break
            size += len(chunk.raw)
    except StopAsyncIteration:
        if not buffered:
            raise errors.bad_response("the stream ended without a response") from None
    return ChunkStream(buffered[0], chunks, buffered[1:])


async def read_whole(response: ProviderResponse, reader: ResponseReader) -> ModelResponse:
    """Read the response to a call that did not request a stream, and close it. If the provider sends a stream, it is
    converted to a whole response. Raises the provider's error."""
    raw = await response.read_body()
    try:
        return _whole(response, reader, raw)
    except Exception as error:  # noqa: BLE001 - converted, and logged if it is no PlatformError
        raise errors.failure_of_reading(error) from error.__cause__


def _whole(response: ProviderResponse, reader: ResponseReader, raw: bytes) -> ModelResponse:
    _bound_containers(raw)
    if raw.startswith(b"{") and raw.endswith(b"}"):  # nearly all responses
        return reader.read_whole(raw)
    start = _beginning(raw)
    if _is_json(start):
        return reader.read_whole(_json_in(raw, start))
    if _is_events(raw.lstrip()) or (response.is_event_stream and not start.startswith(b"<")):
        whole = reader.assemble(_chunks_in(raw, reader.make_decoder()))
        if whole is None:
            raise errors.bad_response("the stream ended without a response")
        return whole
    raise response.unexpected_body("JSON", raw)


class EventChunks:
    """The chunks of a response. It reads only when the consumer asks for a chunk, so that a slow consumer slows the
    provider down through the sockets' buffers.

    The connection is closed or returned to the pool at the last chunk, the first failure, a cancellation or `aclose`,
    whichever comes first.
    """

    def __init__(self, response: ProviderResponse, reader: ResponseReader) -> None:
        self._response = response
        self._reader = reader
        self._decoder = reader.make_decoder()
        self._parser = SseParser()
        self._events: deque[bytes] = deque()
        self._whole: deque[ChatChunk] | None = None
        self._closed = False
        self._ended = False
        self._started = False
        self._at_end = False

    def __aiter__(self) -> "EventChunks":
        return self

    async def __anext__(self) -> ChatChunk:
        if self._closed:
            raise StopAsyncIteration
        try:
            chunk = await self._next()
        except Exception as error:  # noqa: BLE001 - converted, and logged if it is no PlatformError
            self._close()
            raise errors.failure_of_reading(error) from error.__cause__
        except BaseException:
            self._close()
            raise
        if chunk is None:
            self._close()
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Close the connection at once unless the response is complete."""
        self._close()

    async def _next(self) -> ChatChunk | None:
        if not self._started:
            self._started = True
            await self._begin()
        if self._whole is not None:
            return self._whole.popleft() if self._whole else None
        decoder = self._decoder
        while not decoder.complete:
            if self._events:
                chunk = decoder.decode(self._events.popleft())
                if chunk is not None:
                    return chunk
                continue
            if self._at_end:
                decoder.finish()
                return None
            data = await self._response.next_bytes()
            if data:
                self._parse(data)
            else:  # some servers omit the empty line after the last event
                self._at_end = True
                self._parse(b"\n\n")
        if not self._ended:
            self._ended = True
            if (last := decoder.trailing) is not None:
                return last
        await self._response.drain()
        return None

    async def _begin(self) -> None:
        """Read the first bytes and see from them whether the body is JSON or events. The Content-Type alone is not
        reliable."""
        response = self._response
        response.require_uncompressed()
        first = data = await response.next_bytes()
        while data and len(_beginning(first)) < _SNIFF_BYTES and len(first) < MAX_BUFFERED_BYTES:
            data = await response.next_bytes()
            first += data
        start = _beginning(first)
        if _is_json(start):
            raw = await response.read_body(first)
            _bound_containers(raw)
            self._whole = deque(self._reader.split(self._reader.read_whole(_json_in(raw, _beginning(raw)))))
        elif _is_events(first.lstrip()) or (response.is_event_stream and not start.startswith(b"<")):
            self._parse(first)
        else:
            raise response.unexpected_body("an event stream", first)

    def _parse(self, data: bytes) -> None:
        try:
            self._events.extend(self._parser.feed(data))
        except EventTooLarge:
            raise errors.too_large("one event of the stream is too large") from None

    def _close(self) -> None:
        self._closed = True
        self._events.clear()
        self._response.close()


def _chunks_in(raw: bytes, decoder: EventDecoder) -> Iterable[ChatChunk]:
    """Yield the chunks of a whole stream. Raises the provider's error if the stream contains one."""
    parser = SseParser()
    try:
        events = parser.feed(raw) + parser.feed(b"\n\n")
    except EventTooLarge:
        raise errors.too_large("one event of the stream is too large") from None
    for event in events:
        if decoder.complete:
            break
        chunk = decoder.decode(event)
        if chunk is not None:
            yield chunk
    if not decoder.complete:
        decoder.finish()
    elif (last := decoder.trailing) is not None:
        yield last


def _bound_containers(raw: bytes) -> None:
    """Raise ResponseTooLarge for a whole response with too many objects and lists, be it JSON or a stream."""
    if len(raw) > UNCOUNTED_BYTES and raw.count(b"[") + raw.count(b"{") > MAX_CONTAINERS:
        raise errors.too_large(f"the response has more than {MAX_CONTAINERS} objects and lists")


def _beginning(raw: bytes) -> bytes:
    """Return the body without what servers send to keep the connection alive: white space, and comments (DeepSeek)."""
    found = _LEADING.match(raw)
    return raw[found.end() :] if found else raw


def _json_in(raw: bytes, start: bytes) -> bytes:
    """Return a body that is JSON, without the comments before it and an event `[DONE]` after it."""
    if raw.lstrip().startswith(b":"):
        raw = start
    return raw[: end.start()] if (end := _DONE.search(raw, max(0, len(raw) - _DONE_BYTES))) else raw


def _is_json(start: bytes) -> bool:
    return start.startswith((b"{", b"["))


def _is_events(start: bytes) -> bool:
    """Return whether a body without the type of an event stream is one. An empty body is not."""
    return any(start.startswith(field) for field in _FIELDS)
