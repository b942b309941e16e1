"""Odd responses as bytes: events of both formats, and servers that send them."""

import json

import pytest

from platform_app.errors import (
    PlatformError,
)
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.responses import ChatChunk
from tests.support.providers.wires import adapter_for, call, collect, open_stream
from tests.support.servers.network.tcp import canned

OPENAI_SHAPED = pytest.mark.parametrize("wire", ["openai", "azure"], indirect=True)
RESPONSES = pytest.mark.parametrize("wire", ["openai-responses"], indirect=True)
ANTHROPIC = pytest.mark.parametrize("wire", ["anthropic"], indirect=True)
BOTH_STREAM = pytest.mark.parametrize("streams", [False, True], ids=["json", "stream"])
STREAM, JSON = b"text/event-stream", b"application/json"


def chunk(delta: object, reason: str | None = None, **fields: object) -> bytes:
    """Return an event in OpenAI's format."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return b"data: %b\n\n" % json.dumps({"id": "c", "model": "m", "choices": [choice], **fields}).encode()


def event(kind: str, **fields: object) -> bytes:
    """Return an event in Anthropic's format, or of Responses."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode())


ROLE, END, DONE = chunk({"role": "assistant", "content": ""}), chunk({}, "stop"), b"data: [DONE]\n\n"
HELLO, WORLD = chunk({"content": "Hello"}), chunk({"content": " world"})
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
FILTER_RESULTS = b'data: {"id":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}\n\n'

A_MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "m", "usage": {"input_tokens": 1}}
A_START = event("message_start", message={**A_MESSAGE, "content": []})
A_TEXT = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
A_HELLO = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"})
A_WORLD = event("content_block_delta", index=0, delta={"type": "text_delta", "text": " world"})
A_END = (
    event("content_block_stop", index=0)
    + event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2})
    + event("message_stop")
)
R_RESPONSE = {"id": "c", "object": "response", "created_at": 1, "model": "m", "status": "in_progress", "output": []}
R_PLACE = {"item_id": "i", "output_index": 0, "content_index": 0}
R_ITEM = {"id": "i", "type": "message", "role": "assistant", "status": "completed"}
R_PART = {"type": "output_text", "text": "Hello world", "annotations": []}
R_WHOLE = {**R_RESPONSE, "status": "completed", "output": [{**R_ITEM, "content": [R_PART]}]}
R_START = event("response.created", response=R_RESPONSE) + event("response.in_progress", response=R_RESPONSE)
R_TEXT = event("response.output_item.added", output_index=0, item={**R_ITEM, "content": []}) + event(
    "response.content_part.added", **R_PLACE, part={**R_PART, "text": ""}
)
R_HELLO = event("response.output_text.delta", **R_PLACE, delta="Hello")
R_WORLD = event("response.output_text.delta", **R_PLACE, delta=" world")
R_USAGE = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
R_END = event("response.completed", response={**R_WHOLE, "usage": R_USAGE})
GOOD = {
    "openai": (ROLE, HELLO, WORLD, END + USAGE + DONE),
    "openai-responses": (R_START + R_TEXT, R_HELLO, R_WORLD, R_END),
    "azure": (FILTER_RESULTS + ROLE, HELLO, WORLD, END + USAGE + DONE),
    "anthropic": (A_START + A_TEXT + event("ping"), A_HELLO, A_WORLD, A_END),
}
"""By wire format: the events before the first content, two parts of it, and the end."""
WHOLE = {
    "openai": {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello world"},
                                       "finish_reason": "stop"}]},
    "openai-responses": R_WHOLE,
    "anthropic": {**A_MESSAGE, "content": [{"type": "text", "text": "Hello world"}], "stop_reason": "end_turn"},
}  # fmt: skip
WHOLE["azure"] = WHOLE["openai"]


async def stream_of(pool: ConnectionPool, wire: str, body: bytes, content_type: bytes = STREAM) -> list[ChatChunk]:
    """Return the chunks of a stream with these bytes."""
    chunks: list[ChatChunk] = []
    async with canned(content_type, body) as server:
        await collect(adapter_for(wire, pool, server.url), call(streams=True), chunks)
    return chunks


async def error_of(pool: ConnectionPool, wire: str, body: bytes, content_type: bytes = STREAM) -> PlatformError:
    """Return the error of a streaming call that fails before its first content."""
    async with canned(content_type, body) as server:
        with pytest.raises(PlatformError) as caught:
            await open_stream(adapter_for(wire, pool, server.url), call(streams=True))
    return caught.value
