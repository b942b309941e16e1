"""Reading a response must end in an error of ours, whatever the code that reads it raises."""

import json
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from platform_app.errors import ContentFiltered, ProviderBadResponse
from platform_app.llm.codecs.lenient_json import Unwritable
from platform_app.llm.errors import ResponseTooLarge
from platform_app.llm.http.event_stream import MAX_CONTAINERS, UNCOUNTED_BYTES, ResponseReader, open_stream, read_whole
from platform_app.llm.http.response import ProviderResponse
from platform_app.llm.providers.anthropic.adapter import READER
from platform_app.llm.responses import ChatChunk, ModelResponse

CHUNK = ChatChunk(b"{}", {"choices": [{"index": 0, "delta": {"content": "Hel"}}]})


class Body:
    """A response that has arrived."""

    is_event_stream = False

    def __init__(self, *parts: bytes) -> None:
        self.parts = list(parts)
        self.closed = False

    def require_uncompressed(self) -> None:
        pass

    def unexpected_body(self, expected: str, start: bytes) -> ProviderBadResponse:
        return ProviderBadResponse(f"expected {expected}, got {start!r}")

    async def next_bytes(self) -> bytes:
        return self.parts.pop(0) if self.parts else b""

    async def read_body(self, first: bytes = b"") -> bytes:
        return first + b"".join(self.parts)

    def close(self) -> None:
        self.closed = True


def response_of(*parts: bytes) -> ProviderResponse:
    return cast("ProviderResponse", Body(*parts))


def reader_raising(error: Exception) -> ResponseReader:
    class Decoder:
        complete = False
        trailing = None

        def decode(self, data: bytes) -> ChatChunk:
            if data == b"first":
                return CHUNK
            raise error

        def finish(self) -> None:
            raise error

    def whole(raw: bytes) -> ModelResponse:
        raise error

    return ResponseReader(whole, Decoder)


@pytest.mark.parametrize("error", [TypeError("unhashable"), KeyError("x"), RecursionError(), OverflowError()])
async def test_unexpected_exception_becomes_bad_response(error: Exception) -> None:
    reader = reader_raising(error)
    with capture_logs() as logs:
        for body in (b'{"a": 1}', b"data: x\n\n"):
            with pytest.raises(ProviderBadResponse):
                await read_whole(response_of(body), reader)
        body_of_stream = Body(b"data: first\n\n", b"data: second\n\n")
        stream = await open_stream(cast("ProviderResponse", body_of_stream), reader)
        assert await anext(stream) == CHUNK
        with pytest.raises(ProviderBadResponse):
            await anext(stream)
    assert body_of_stream.closed
    assert [log["error"] for log in logs if log["event"] == "provider_response_unreadable"] == [
        type(error).__name__
    ] * 3


@pytest.mark.parametrize(
    ("error", "kind"), [(ContentFiltered("no"), ContentFiltered), (Unwritable("deep"), ProviderBadResponse)]
)
async def test_expected_exception_is_not_logged(error: Exception, kind: type[Exception]) -> None:
    with capture_logs() as logs:
        with pytest.raises(kind):
            await read_whole(response_of(b'{"a": 1}'), reader_raising(error))
        with pytest.raises(kind):
            await open_stream(response_of(b"data: second\n\n"), reader_raising(error))
    assert logs == []


async def test_deeply_nested_block_becomes_bad_response() -> None:
    nested: Any = []
    for _ in range(260):
        nested = [nested]
    block = {"type": "thinking", "thinking": "t", "signature": "s", "extra": nested}
    message = {"type": "message", "content": [block], "stop_reason": "end_turn"}
    with pytest.raises(ProviderBadResponse):
        await read_whole(response_of(json.dumps(message).encode()), READER)


@pytest.mark.parametrize("parts", [(b": PROC", b"ESSING\n\n", b'{"a"', b": 1}"), (b"\n" * 80, b'{"a": 1}')])
async def test_keep_alive_may_arrive_in_parts(parts: tuple[bytes, ...]) -> None:
    read: list[bytes] = []

    def whole(raw: bytes) -> ModelResponse:
        read.append(raw.strip())
        return ModelResponse(raw, {"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]})

    stream = await open_stream(response_of(*parts), ResponseReader(whole, reader_raising(KeyError()).make_decoder))
    assert "".join([chunk.text async for chunk in stream]) == "Hi"
    assert read == [b'{"a": 1}']


async def test_page_of_proxy_is_kept_for_the_log() -> None:
    body = Body(b"<html><h1>Bad gateway</h1></html>")
    body.is_event_stream = True
    with pytest.raises(ProviderBadResponse, match="Bad gateway"):
        await open_stream(cast("ProviderResponse", body), reader_raising(KeyError()))


async def test_response_of_too_many_lists_is_not_parsed() -> None:
    raw = b"[" + b"[]," * MAX_CONTAINERS + b"[]]"
    with pytest.raises(ResponseTooLarge):
        await read_whole(response_of(raw), reader_raising(AssertionError("parsed")))
    with pytest.raises(ResponseTooLarge):
        await open_stream(response_of(raw), reader_raising(AssertionError("parsed")))


async def test_stream_of_too_many_lists_becomes_no_response() -> None:
    event = b'data: {"a": [' + b"[]," * (MAX_CONTAINERS // 4) + b"[]]}\n\n"
    with pytest.raises(ResponseTooLarge):
        await read_whole(response_of(event * 5), reader_raising(AssertionError("parsed")))


async def test_large_text_is_parsed() -> None:
    raw = b'{"a": "%b"}' % (b"x" * 2 * UNCOUNTED_BYTES)
    with pytest.raises(ContentFiltered):
        await read_whole(response_of(raw), reader_raising(ContentFiltered("parsed")))
