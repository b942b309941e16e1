"""Bodies of another form than the request expects, and errors within a 200 (issue 11, kinds 4 and 10)."""

import json
from typing import Any

import pytest

from platform_app.errors import (
    ContextLengthExceeded,
    PlatformError,
    ProviderBadResponse,
    ProviderError,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRejectedRequest,
)
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.requests import Operation
from platform_app.llm.responses import ChatChunk
from tests.support.providers.odd_responses import (
    BOTH_STREAM,
    DONE,
    GOOD,
    HELLO,
    JSON,
    OPENAI_SHAPED,
    ROLE,
    STREAM,
    USAGE,
    WHOLE,
    error_of,
    stream_of,
)
from tests.support.providers.wires import adapter_for, call, collect, complete, text_of
from tests.support.servers.network.tcp import answering, canned

TYPES = [b"", b"application/octet-stream", b"text/plain; charset=utf-8", b"application/json", b"text/event-stream"]


def typed(content_type: bytes, body: bytes) -> bytes:
    """Return a response; without a Content-Type if that is empty."""
    line = b"Content-Type: %b\r\n" % content_type if content_type else b""
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (line, len(body), body)


@pytest.mark.parametrize("content_type", TYPES, ids=lambda each: each.decode() or "none")
@pytest.mark.parametrize("sends_stream", [False, True], ids=["json", "events"])
@pytest.mark.parametrize("wants_stream", [False, True], ids=["asked json", "asked stream"])
async def test_body_decides_over_content_type(
    pool: ConnectionPool, wire: str, content_type: bytes, sends_stream: bool, wants_stream: bool
) -> None:
    """Kind 10: any Content-Type, whatever the request says."""
    body = b"".join(GOOD[wire]) if sends_stream else json.dumps(WHOLE[wire]).encode()
    async with answering(typed(content_type, body)) as server:
        adapter = adapter_for(wire, pool, server.url)
        if wants_stream:
            chunks: list[ChatChunk] = []
            await collect(adapter, call(streams=True), chunks)
            text, reason = text_of(chunks), [each.finish_reason for each in chunks if each.finish_reason]
        else:
            done = await complete(adapter, call())
            text, reason = done.message["content"], [str(done.finish_reason)]
    assert (text, reason) == ("Hello world", ["stop"])


@OPENAI_SHAPED
async def test_unrequested_stream_becomes_whole_response(pool: ConnectionPool, wire: str) -> None:
    """Kind 10: with tool calls, reasoning, several choices and usage."""

    def delta(index: int, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": reason}
        return b"data: %b\n\n" % json.dumps({"id": "c", "created": 5, "model": "m", "choices": [choice]}).encode()

    def tool(index: int, arguments: str, **fields: Any) -> dict[str, Any]:
        function = {"arguments": arguments, **({"name": fields.pop("name")} if "name" in fields else {})}
        return {"tool_calls": [{"index": index, "function": function, **fields}]}

    body = b"".join(
        [
            delta(0, {"role": "assistant", "content": None}),
            delta(0, {"reasoning_content": "think"}),
            delta(0, {"reasoning_content": "ing"}),
            delta(0, tool(0, "", name="a", id="x", type="function")),
            delta(1, {"role": "assistant", "content": "He"}),
            delta(0, tool(1, '{"n":', name="b", id="y", type="function")),
            delta(0, tool(0, "{}")),
            delta(0, tool(1, "1}")),
            delta(1, {"content": "llo"}),
            delta(0, {}, "tool_calls"),
            delta(1, {}, "stop"),
            USAGE,
            DONE,
        ]
    )
    async with canned(STREAM, body) as server:
        done = await complete(adapter_for(wire, pool, server.url), call())
    assert json.loads(done.raw) == done.body
    assert done.body["object"] == "chat.completion"
    assert (done.body["id"], done.body["created"], done.body["model"]) == ("c", 5, "m")
    first, second = done.body["choices"]
    assert first["message"]["tool_calls"] == [
        {"id": "x", "type": "function", "function": {"name": "a", "arguments": "{}"}},
        {"id": "y", "type": "function", "function": {"name": "b", "arguments": '{"n":1}'}},
    ]
    assert (first["message"]["content"], first["message"]["reasoning_content"]) == (None, "thinking")
    assert (first["finish_reason"], second["finish_reason"]) == ("tool_calls", "stop")
    assert second["message"]["content"] == "Hello"
    assert done.usage is not None
    assert done.usage.total_tokens == 3


@OPENAI_SHAPED
async def test_whole_response_becomes_stream(pool: ConnectionPool, wire: str) -> None:
    """Kind 10: with tool calls and usage."""
    calls = [{"id": "x", "type": "function", "function": {"name": "a", "arguments": "{}"}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    whole = {
        "id": "c", "object": "chat.completion", "created": 5, "model": "m", "system_fingerprint": "f",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": None}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }  # fmt: skip
    chunks = await stream_of(pool, wire, json.dumps(whole).encode(), JSON)
    assert [json.loads(each.raw) for each in chunks] == [each.body for each in chunks]
    assert {each.body["object"] for each in chunks} == {"chat.completion.chunk"}
    assert chunks[0].delta["tool_calls"] == [{"index": 0, **calls[0]}]
    assert [each.finish_reason for each in chunks] == [None, "tool_calls", None]
    assert [each.usage is not None for each in chunks] == [False, False, True]


@pytest.mark.parametrize("cut", [ROLE + HELLO, b'{"id": "c", "choices": [{"mess'], ids=["events", "json"])
@pytest.mark.parametrize("wire", ["openai"], indirect=True)
@BOTH_STREAM
async def test_truncated_response_raises_bad_response(
    pool: ConnectionPool, wire: str, cut: bytes, streams: bool
) -> None:
    """A truncated response is never a success, whatever the request says."""
    async with canned(b"", cut) as server:
        adapter = adapter_for(wire, pool, server.url)
        with pytest.raises(ProviderBadResponse):
            await (collect(adapter, call(streams=True), []) if streams else complete(adapter, call()))


FAILURES: dict[str, tuple[object, type[PlatformError]]] = {
    "openai": ({"error": {"message": "m", "type": "invalid_request_error"}}, ProviderRejectedRequest),
    "by code": ({"error": {"message": "m", "code": "context_length_exceeded"}}, ContextLengthExceeded),
    "by words": ({"error": {"message": "maximum context length is 5", "code": 400}}, ContextLengthExceeded),
    "quota": ({"error": {"message": "m", "code": 402}}, ProviderQuotaExhausted),
    "limited": ({"error": {"message": "m", "code": "429"}}, ProviderRateLimited),
    "fastapi": ({"detail": [{"loc": ["body", "n"], "msg": "m"}]}, ProviderRejectedRequest),
    "vllm": ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, ProviderRejectedRequest),
    "a text": ({"error": "m"}, ProviderError),
    "a list": ([{"error": {"message": "m", "code": 400}}], ProviderRejectedRequest),
    "a status": ({"message": "m", "statusCode": 422}, ProviderRejectedRequest),
    "anthropic": ({"type": "error", "error": {"type": "api_error", "message": "m"}}, ProviderError),
    "anthropic words": (
        {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: m"}},
        ContextLengthExceeded,
    ),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("content_type", [JSON, STREAM, b""], ids=["json", "stream", "none"])
async def test_error_in_200_has_same_class_in_every_shape(
    pool: ConnectionPool, wire: str, name: str, content_type: bytes
) -> None:
    """Kinds 4 and 10: as JSON or as an event, for a stream or not, before any content and after it."""
    body, kind = FAILURES[name]
    raw = json.dumps(body).encode()
    before, first, *_ = GOOD[wire]
    for sent in (raw, b"data: %b\n\n" % raw, b"event: error\ndata: %b\n\n" % raw, before + b"data: %b\n\n" % raw):
        error = await error_of(pool, wire, sent, content_type)
        assert type(error) is kind
        assert "m" in f"{error.details}{error.provider_message}"
        async with answering(typed(content_type, sent)) as server:
            with pytest.raises(kind):
                await complete(adapter_for(wire, pool, server.url), call())
    chunks: list[ChatChunk] = []
    async with canned(STREAM, before + first + b"data: %b\n\n" % raw) as server:
        with pytest.raises(kind):
            await collect(adapter_for(wire, pool, server.url), call(streams=True), chunks)
    assert text_of(chunks) == "Hello"


@pytest.mark.parametrize("line", [b'{"error": {"message": "m", "code": 400}}', b'error: {"code": 400, "message": "m"}'])
async def test_bare_error_line_raises_its_error(pool: ConnectionPool, wire: str, line: bytes) -> None:
    """Kind 4, in streams: llama.cpp writes `error:`, others bare JSON."""
    before, first, *_ = GOOD[wire]
    for rest in (line + b"\n\n", line + b"\n", line):
        chunks: list[ChatChunk] = []
        async with canned(STREAM, before + first + rest) as server:
            with pytest.raises(PlatformError) as caught:
                await collect(adapter_for(wire, pool, server.url), call(streams=True), chunks)
        assert (type(caught.value), caught.value.details) == (ProviderRejectedRequest, ["m"])
        assert text_of(chunks) == "Hello"


async def test_plain_text_error_is_logged(pool: ConnectionPool, wire: str) -> None:
    """Kind 4, in streams: the text of a proxy is kept for the log."""
    before, first, *_ = GOOD[wire]
    async with canned(STREAM, before + first + b"data: Internal error: device 3 is lost\n\n") as server:
        with pytest.raises(ProviderBadResponse) as caught:
            await collect(adapter_for(wire, pool, server.url), call(streams=True), [])
    assert caught.value.provider_message == "Internal error: device 3 is lost"
    page = b"<html><title>Sign in</title>to the portal</html>"
    error = await error_of(pool, wire, page, b"text/html")
    assert (type(error), error.provider_message) == (ProviderBadResponse, "Sign in to the portal")


@OPENAI_SHAPED
@BOTH_STREAM
async def test_error_in_choice_raises_error(pool: ConnectionPool, wire: str, streams: bool) -> None:
    """OpenRouter reports a failure of its provider in the choice."""
    choice = {
        "index": 0, "message": {"role": "assistant", "content": "Hel"}, "delta": {"content": ""},
        "finish_reason": "error", "error": {"code": 502, "message": "m"},
    }  # fmt: skip
    raw = json.dumps({"id": "c", "choices": [choice]}).encode()
    body, content_type = (ROLE + HELLO + b"data: %b\n\n" % raw + DONE, STREAM) if streams else (raw, JSON)
    async with canned(content_type, body) as server:
        adapter = adapter_for(wire, pool, server.url)
        with pytest.raises(ProviderError) as caught:
            await (collect(adapter, call(streams=True), []) if streams else complete(adapter, call()))
    assert caught.value.provider_message == "m"


@OPENAI_SHAPED
@pytest.mark.parametrize("name", ["openai", "by words", "quota", "fastapi", "vllm", "a list", "a status"])
async def test_embeddings_error_in_200_raises_error(pool: ConnectionPool, wire: str, name: str) -> None:
    """Kind 10: embeddings."""
    body, kind = FAILURES[name]
    async with canned(JSON, json.dumps(body).encode()) as server:
        with pytest.raises(kind):
            await complete(adapter_for(wire, pool, server.url), call(operation=Operation.EMBEDDINGS, input="a"))
