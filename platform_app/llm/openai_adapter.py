"""OpenAI's wire format (https://platform.openai.com/docs/api-reference/chat) over a shared aiohttp session.

Why not through the `openai` package's client: docs/adr/0003-provider-calls-on-aiohttp.md, with figures.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from platform_app.errors import PlatformError
from platform_app.llm import openai_errors as errors
from platform_app.llm.answers import ChatChunk, Completion
from platform_app.llm.base import Answer
from platform_app.llm.calls import UpstreamCall
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.sse import EventTooLarge, SseParser

_MAX_ERROR_BYTES = 64 * 1024
_DONE = b"[DONE]"
TRANSPORT_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)
"""What aiohttp raises where a connection fails."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a provider gets."""

    connect: float
    first_byte: float
    """Until the answer begins, and between any two pieces of it."""
    total: float


class OpenAIAdapter:
    """One provider that speaks OpenAI's format. The session belongs to whoever opened it."""

    def __init__(
        self, session: aiohttp.ClientSession, base_url: str, deadlines: Deadlines, max_response_bytes: int
    ) -> None:
        self._session = session
        self._url = f"{base_url}/chat/completions"
        self._deadlines = deadlines
        self._max_bytes = max_response_bytes
        self._timeout = aiohttp.ClientTimeout(
            total=deadlines.total,
            connect=deadlines.connect,  # includes waiting for a free connection of the pool
            sock_read=deadlines.first_byte,
        )

    async def send(self, call: UpstreamCall, credential: str | None) -> Answer:
        """See ModelAdapter.send."""
        if call.stream:
            chunks = self._stream(call, credential)
            return ChunkStream(await anext(chunks), chunks)
        return await self._complete(call, credential)

    async def _complete(self, call: UpstreamCall, credential: str | None) -> Completion:
        response = await self._open({**call.body, "model": call.model}, credential)
        try:
            raw = await _read(response, self._max_bytes)
        except TRANSPORT_ERRORS as error:
            raise self._translate(error) from error
        finally:
            _release(response)
        return _completion(raw)

    async def _stream(self, call: UpstreamCall, credential: str | None) -> AsyncGenerator[ChatChunk, None]:
        body = {**call.body, "model": call.model, "stream": True, "stream_options": {"include_usage": True}}
        response = await self._open(body, credential)
        started = finished = False
        received = 0
        try:
            if response.content_type != "text/event-stream":
                raise errors.bad_response(f"expected an event stream, got {response.content_type[:100]!r}")
            parser = SseParser()
            async for piece in response.content.iter_any():
                received += len(piece)
                if received > self._max_bytes:
                    raise errors.bad_response(f"the answer is larger than {self._max_bytes} bytes")
                for data in _feed(parser, piece):
                    if data == _DONE:
                        if started:
                            return
                        raise errors.bad_response("the stream ended without an answer")
                    chunk = _chunk(data)
                    started = started or bool(chunk.body["choices"])
                    finished = finished or chunk.finish_reason is not None
                    yield chunk
        except TRANSPORT_ERRORS as error:
            raise self._translate(error) from error
        finally:
            _release(response)
        if not finished:  # some servers end without [DONE], but none without a finish_reason
            raise errors.bad_response("the stream ended before the answer was complete")

    async def aclose(self) -> None:
        """Nothing of its own to release."""

    async def _open(self, body: Mapping[str, Any], credential: str | None) -> aiohttp.ClientResponse:
        """The response of a 200, its body unread; every other outcome is one of our errors."""
        headers = {
            "Authorization": f"Bearer {credential}",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",  # small answers, and no bomb to unpack
        }
        # As a payload, since aiohttp would search its registry for what to do with bytes: 3 % of a request.
        data = aiohttp.BytesPayload(orjson.dumps(body))
        try:
            response = await self._session.post(
                self._url, data=data, headers=headers, timeout=self._timeout, allow_redirects=False
            )
        except TRANSPORT_ERRORS as error:
            raise self._translate(error) from error
        if response.status == 200:
            return response
        try:
            start = await _read_start(response, _MAX_ERROR_BYTES)
        finally:
            _release(response)
        raise errors.error_from_response(response.status, response.headers, start)

    def _translate(self, error: Exception) -> PlatformError:
        """Most specific first."""
        match error:
            case aiohttp.ConnectionTimeoutError():
                return errors.timed_out(f"no connection within {self._deadlines.connect:g} s")
            case aiohttp.SocketTimeoutError():
                return errors.timed_out(f"silence for {self._deadlines.first_byte:g} s")
            case TimeoutError():
                return errors.timed_out(f"no complete answer within {self._deadlines.total:g} s")
            case aiohttp.ClientPayloadError():
                return errors.bad_response("the connection ended in the middle of the answer")
            case aiohttp.ClientConnectionError() | OSError():
                return errors.unavailable()
            case _:
                return errors.bad_response("the answer was not valid HTTP")


def _release(response: aiohttp.ClientResponse) -> None:
    """Without effect on an answer that was read whole, whose connection is back in the pool; else it ends the
    connection, so that the provider stops generating."""
    response.close()


def _feed(parser: SseParser, piece: bytes) -> list[bytes]:
    try:
        return parser.feed(piece)
    except EventTooLarge:
        raise errors.bad_response("one event of the stream is too large") from None


def _completion(raw: bytes) -> Completion:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise errors.bad_response("the answer is not valid JSON") from None
    if isinstance(body, dict):
        if "error" in body and "choices" not in body:
            raise errors.error_from_event(body["error"])
        choices = body.get("choices")
        if isinstance(choices, list) and choices and _has_message(choices[0]):
            return Completion(raw, body)
    raise errors.bad_response("the answer is not a chat completion")


def _has_message(choice: object) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("message"), dict)


def _chunk(data: bytes) -> ChatChunk:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise errors.bad_response("an event of the stream is not valid JSON") from None
    if not isinstance(body, dict):
        raise errors.bad_response("an event of the stream is not an object")
    if body.get("error"):
        raise errors.error_from_event(body["error"])
    if not isinstance(body.get("choices"), list):
        raise errors.bad_response("an event of the stream is not a piece of a chat completion")
    return ChatChunk(data, body)


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The whole body, or an error as soon as it passes `limit` bytes."""
    if response.content_type != "application/json":
        raise errors.bad_response(f"expected JSON, got {response.content_type[:100]!r}")
    if (response.content_length or 0) > limit:
        raise errors.bad_response(f"the answer is larger than {limit} bytes")
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > limit:
            raise errors.bad_response(f"the answer is larger than {limit} bytes")
    return b"".join(parts)


async def _read_start(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """At most `limit` bytes of an error's body; the status says enough where it cannot be read."""
    parts, size = [], 0
    try:
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size >= limit:
                break
    except (aiohttp.ClientError, TimeoutError):
        pass
    return b"".join(parts)[:limit]
