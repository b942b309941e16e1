"""What real servers send instead of what their reference says, through every adapter. The kinds are those of issue 11;
the simulator plays one of each, here are their siblings, sent as bytes."""

import json
from typing import Any

import pytest

from apps.provider_simulator.server import ProviderSimulator
from platform_app.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    PlatformError,
    ProviderBadResponse,
    ProviderError,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRejectedRequest,
    ProviderTimeout,
)
from platform_app.llm.http.event_stream import MAX_BUFFERED_CHUNKS
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.interfaces import ModelAdapter
from platform_app.llm.policies.failure_table import Health, failure_policy_of
from platform_app.llm.requests import Operation
from platform_app.llm.responses import ChatChunk
from tests.support.providers.wires import adapter_for, call, collect, complete, open_stream, text_of, url_of
from tests.support.servers.tcp import answering, canned

OPENAI_SHAPED = pytest.mark.parametrize("wire", ["openai", "azure"], indirect=True)
ANTHROPIC = pytest.mark.parametrize("wire", ["anthropic"], indirect=True)
BOTH_STREAM = pytest.mark.parametrize("streams", [False, True], ids=["json", "stream"])
STREAM, JSON = b"text/event-stream", b"application/json"


def chunk(delta: object, reason: str | None = None, **fields: object) -> bytes:
    """An event of OpenAI's."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return b"data: %b\n\n" % json.dumps({"id": "c", "model": "m", "choices": [choice], **fields}).encode()


def event(kind: str, **fields: object) -> bytes:
    """An event of Anthropic's."""
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
GOOD = {
    "openai": (ROLE, HELLO, WORLD, END + USAGE + DONE),
    "azure": (FILTER_RESULTS + ROLE, HELLO, WORLD, END + USAGE + DONE),
    "anthropic": (A_START + A_TEXT + event("ping"), A_HELLO, A_WORLD, A_END),
}
"""By wire format: what comes before the first content, two parts of it, and the end."""
WHOLE = {
    "openai": {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello world"},
                                       "finish_reason": "stop"}]},
    "anthropic": {**A_MESSAGE, "content": [{"type": "text", "text": "Hello world"}], "stop_reason": "end_turn"},
}  # fmt: skip
WHOLE["azure"] = WHOLE["openai"]


async def stream_of(pool: ConnectionPool, wire: str, body: bytes, content_type: bytes = STREAM) -> list[ChatChunk]:
    """The chunks of a stream with these bytes."""
    chunks: list[ChatChunk] = []
    async with canned(content_type, body) as server:
        await collect(adapter_for(wire, pool, server.url), call(streams=True), chunks)
    return chunks


async def error_body_of(pool: ConnectionPool, wire: str, body: bytes, content_type: bytes = STREAM) -> PlatformError:
    """What a call for a stream fails with before its first content."""
    async with canned(content_type, body) as server:
        with pytest.raises(PlatformError) as caught:
            await open_stream(adapter_for(wire, pool, server.url), call(streams=True))
    return caught.value


# --- kinds 14, 15, 17: events that hold nothing, and other line ends

NOTHING: dict[str, bytes] = {
    "14 null choices": b'data: {"id": "c", "choices": null}\n\n',
    "14 no choices": b'data: {"id": "c", "object": "chat.completion.chunk"}\n\n',
    "14 choices of null": b'data: {"id": "c", "choices": [null]}\n\n',
    "14 choices as an object": b'data: {"id": "c", "choices": {}}\n\n',
    "14 null delta": b'data: {"id": "c", "choices": [{"index": 0, "delta": null, "finish_reason": null}]}\n\n',
    "14 no delta": b'data: {"id": "c", "choices": [{"index": 0}]}\n\n',
    "15 empty": b"data:\n\n",
    "15 spaces": b"data:   \n\n",
    "15 empty lines of data": b"data\n\ndata:\ndata:\n\n",
    "15 null": b"data: null\n\n",
    "15 an empty object": b"data: {}\n\n",
    "15 an empty list": b"data: []\n\n",
    "15 a number": b"data: 1\n\n",
    "15 a text": b'data: "ping"\n\n',
    "15 a word": b"data: keep-alive\n\n",
    "15 a named event": b"event: ping\ndata:\n\n",
    "15 a comment": b": OPENROUTER PROCESSING\n\n",
    "15 a comment alone": b":\n",
    "15 more empty lines": b"\n\n\n",
    "15 other fields": b"id: 7\nretry: 100\n\n",
}


@pytest.mark.parametrize("name", NOTHING)
async def test_empty_event_is_skipped(pool: ConnectionPool, wire: str, name: str) -> None:
    """Kinds 14 and 15, in front, in the middle and behind the content."""
    before, first, second, end = GOOD[wire]
    nothing = NOTHING[name]
    for body in (
        nothing + before + first + second + end,
        before + nothing + first + second + end,
        before + first + nothing + second + end,
        before + first + second + nothing + end,
    ):
        chunks = await stream_of(pool, wire, body)
        assert text_of(chunks) == "Hello world"
        assert [each.finish_reason for each in chunks if each.finish_reason] == ["stop"]
        assert chunks[-1].usage is not None


@OPENAI_SHAPED
@pytest.mark.parametrize(
    "done",
    [b"data: [DONE] \n\n", b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n", b"data:  [DONE]\t\n\n", b'data: "[DONE]"\n\n',
     b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE] bye\n\n", b"event: done\ndata: [DONE]\n\n"],
)  # fmt: skip
async def test_done_is_recognised_in_any_spelling(pool: ConnectionPool, wire: str, done: bytes) -> None:
    """Kind 15. Without a finish_reason, so that only [DONE] completes the answer."""
    assert text_of(await stream_of(pool, wire, ROLE + HELLO + done)) == "Hello"


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n"], ids=["CRLF", "CR", "LF"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["no bom", "bom"])
async def test_line_ends_and_bom_are_accepted(pool: ConnectionPool, wire: str, end: bytes, bom: bytes) -> None:
    """Kind 17."""
    body = bom + b"".join(GOOD[wire]).replace(b"\n", end)
    assert text_of(await stream_of(pool, wire, body)) == "Hello world"


@OPENAI_SHAPED
async def test_last_event_without_empty_line_is_read(pool: ConnectionPool, wire: str) -> None:
    assert text_of(await stream_of(pool, wire, ROLE + HELLO + END.rstrip())) == "Hello"


# --- kind 16: what is no clean UTF-8

HALVES = {
    "first half": rb"\ud83d",
    "second half": rb"\ude00",
    "upper case": rb"\uD83D",
    "within words": rb"a\ud83db",
}


@pytest.mark.parametrize("name", HALVES)
async def test_half_surrogate_in_stream_passes(pool: ConnectionPool, wire: str, name: str) -> None:
    """Kind 16: the bytes pass as they came in OpenAI's format, and the content in Anthropic's."""
    before, first, second, end = GOOD[wire]
    half = first.replace(b"Hello", HALVES[name])
    chunks = await stream_of(pool, wire, before + half + second + end)
    assert chunks[1 if wire != "azure" else 2].delta["content"] == json.loads(b'"%b"' % HALVES[name])
    if wire != "anthropic":
        assert half.removeprefix(b"data: ").rstrip() in [each.raw for each in chunks]


@pytest.mark.parametrize("name", HALVES)
async def test_half_surrogate_in_json_passes(pool: ConnectionPool, wire: str, name: str) -> None:
    raw = json.dumps(WHOLE[wire]).encode().replace(b"Hello", HALVES[name])
    async with canned(JSON, raw) as server:
        done = await complete(adapter_for(wire, pool, server.url), call())
    assert done.message["content"] == json.loads(b'"%b world"' % HALVES[name])
    if wire != "anthropic":
        assert done.raw == raw


@pytest.mark.parametrize(
    "odd", [b"\xf0\x9f", b"\xff", b"a\tb", b"\x01"], ids=["half a character", "no utf-8", "a tab", "a control"]
)
@BOTH_STREAM
async def test_bytes_invalid_in_json_are_accepted(pool: ConnectionPool, wire: str, odd: bytes, streams: bool) -> None:
    """Kind 16: what leaves is UTF-8 all the same."""
    if streams:
        chunks = await stream_of(pool, wire, b"".join(GOOD[wire]).replace(b"Hello", odd))
        assert text_of(chunks) == odd.decode("utf-8", "replace") + " world"
        assert all(each.raw.decode() for each in chunks)
        return
    async with canned(JSON, json.dumps(WHOLE[wire]).encode().replace(b"Hello", odd)) as server:
        done = await complete(adapter_for(wire, pool, server.url), call())
    assert done.message["content"] == odd.decode("utf-8", "replace") + " world"
    assert done.raw.decode()


@OPENAI_SHAPED
async def test_infinite_log_probability_is_accepted(pool: ConnectionPool, wire: str) -> None:
    """vLLM writes -Infinity."""
    odd = HELLO.replace(b'"logprobs": null', b'"logprobs": {"content": [{"logprob": -Infinity}]}')
    assert b"Infinity" in odd
    assert text_of(await stream_of(pool, wire, ROLE + odd + END + DONE)) == "Hello"


# --- kind 10: another form than was asked for

TYPES = [b"", b"application/octet-stream", b"text/plain; charset=utf-8", b"application/json", b"text/event-stream"]


def typed(content_type: bytes, body: bytes) -> bytes:
    """A response; without a type where there is none."""
    line = b"Content-Type: %b\r\n" % content_type if content_type else b""
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (line, len(body), body)


@pytest.mark.parametrize("content_type", TYPES, ids=lambda each: each.decode() or "none")
@pytest.mark.parametrize("sends_stream", [False, True], ids=["json", "events"])
@pytest.mark.parametrize("wants_stream", [False, True], ids=["asked json", "asked stream"])
async def test_body_decides_over_content_type(
    pool: ConnectionPool, wire: str, content_type: bytes, sends_stream: bool, wants_stream: bool
) -> None:
    """Kind 10: whatever its type says, and whatever was asked for."""
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
    """Kind 10: tool calls, reasoning, several choices, usage."""

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
    """Whatever form was asked for: never a truncated success."""
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
    """Kinds 4 and 10: as JSON or as an event, asked for as a stream or not, before any content and after."""
    body, kind = FAILURES[name]
    raw = json.dumps(body).encode()
    before, first, *_ = GOOD[wire]
    for sent in (raw, b"data: %b\n\n" % raw, b"event: error\ndata: %b\n\n" % raw, before + b"data: %b\n\n" % raw):
        error = await error_body_of(pool, wire, sent, content_type)
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
    """Kind 4, in streams."""
    before, first, *_ = GOOD[wire]
    async with canned(STREAM, before + first + b"data: Internal error: device 3 is lost\n\n") as server:
        with pytest.raises(ProviderBadResponse) as caught:
            await collect(adapter_for(wire, pool, server.url), call(streams=True), [])
    assert caught.value.provider_message == "Internal error: device 3 is lost"
    page = b"<html><title>Sign in</title>to the portal</html>"
    error = await error_body_of(pool, wire, page, b"text/html")
    assert (type(error), error.provider_message) == (ProviderBadResponse, "Sign in to the portal")


@OPENAI_SHAPED
@BOTH_STREAM
async def test_error_in_choice_raises_error(pool: ConnectionPool, wire: str, streams: bool) -> None:
    """OpenRouter's way to tell that its own provider broke off."""
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
    """Kind 10."""
    body, kind = FAILURES[name]
    async with canned(JSON, json.dumps(body).encode()) as server:
        with pytest.raises(kind):
            await complete(adapter_for(wire, pool, server.url), call(operation=Operation.EMBEDDINGS, input="a"))


# --- kind 9: filtered

NULL = {"index": 0, "message": None, "finish_reason": "content_filter"}
FILTERED_BODIES: dict[str, object] = {
    "null message": {"choices": [NULL]},
    "no message": {"choices": [{"index": 0, "finish_reason": "content_filter"}]},
    "no choice": {"choices": [], "finish_reason": "content_filter"},
    "null choices": {"choices": None, "finish_reason": "content_filter"},
    "gemini": {"choices": [{"index": 0, "finish_reason": "content_filter: PROHIBITED_CONTENT"}]},
    "gemini feedback": {"choices": [], "promptFeedback": {"blockReason": "SAFETY"}},
    "openrouter": {"choices": [{"message": None, "finish_reason": None, "native_finish_reason": "SAFETY"}]},
    "azure prompt": {
        "choices": [],
        "prompt_filter_results": [{"content_filter_results": {"hate": {"filtered": True, "severity": "high"}}}],
    },
    "azure choice": {"choices": [{"message": None, "content_filter_results": {"hate": {"filtered": True}}}]},
}


@OPENAI_SHAPED
@pytest.mark.parametrize("name", FILTERED_BODIES)
async def test_filtered_response_raises_content_filtered(pool: ConnectionPool, wire: str, name: str) -> None:
    """Kind 9."""
    async with canned(JSON, json.dumps(FILTERED_BODIES[name]).encode()) as server:
        with pytest.raises(ContentFiltered):
            await complete(adapter_for(wire, pool, server.url), call())


@OPENAI_SHAPED
@pytest.mark.parametrize("name", ["no choice", "null choices", "gemini feedback", "azure prompt"])
async def test_filtered_stream_raises_content_filtered(pool: ConnectionPool, wire: str, name: str) -> None:
    """Kind 9."""
    body = b"data: %b\n\n" % json.dumps(FILTERED_BODIES[name]).encode()
    assert type(await error_body_of(pool, wire, body + DONE)) is ContentFiltered
    assert type(await error_body_of(pool, wire, body)) is ContentFiltered


@OPENAI_SHAPED
async def test_filtered_choice_next_to_good_one_passes(pool: ConnectionPool, wire: str) -> None:
    good = {"index": 1, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    raw = json.dumps({"choices": [NULL, good]}).encode()
    async with canned(JSON, raw) as server:
        done = await complete(adapter_for(wire, pool, server.url), call())
    assert (done.raw, done.message) == (raw, {})


@OPENAI_SHAPED
@pytest.mark.parametrize("reason", ["content_filter", "stop"])
async def test_finish_without_content_passes_unchanged(pool: ConnectionPool, wire: str, reason: str) -> None:
    """A finish_reason says enough: the stream is complete."""
    chunks = await stream_of(pool, wire, ROLE + chunk({}, reason) + DONE)
    assert [each.finish_reason for each in chunks] == [None, reason]


@OPENAI_SHAPED
async def test_empty_unfiltered_response_raises_bad_response(pool: ConnectionPool, wire: str) -> None:
    bodies: list[object] = [{"choices": [{**NULL, "finish_reason": "stop"}]}, {"choices": []}, {"choices": [None]}]
    for body in bodies:
        async with canned(JSON, json.dumps(body).encode()) as server:
            with pytest.raises(ProviderBadResponse):
                await complete(adapter_for(wire, pool, server.url), call())


@ANTHROPIC
async def test_refusal_without_content_raises_content_filtered(pool: ConnectionPool, wire: str) -> None:
    """Kind 9; a refusal with content passes, with the finish_reason content_filter."""
    odd: list[object] = [None, {}, "x"]
    for content in odd:
        body = {**A_MESSAGE, "content": content, "stop_reason": "refusal"}
        async with canned(JSON, json.dumps(body).encode()) as server:
            with pytest.raises(ContentFiltered):
                await complete(adapter_for(wire, pool, server.url), call())
    async with canned(JSON, json.dumps({**A_MESSAGE, "content": [], "stop_reason": "refusal"}).encode()) as server:
        done = await complete(adapter_for(wire, pool, server.url), call())
    assert done.finish_reason == "content_filter"


# --- kind 18: what carries no content is held back

SILENT = {
    "openai": [ROLE, chunk({"content": None}), chunk({"content": "", "refusal": None}), chunk({"tool_calls": []})],
    "azure": [FILTER_RESULTS, ROLE, chunk({})],
    "anthropic": [A_START, A_TEXT, event("ping")],
}


async def test_error_after_empty_chunks_raises_from_send(pool: ConnectionPool, wire: str) -> None:
    """Kind 18: so the policies can still try again, or elsewhere."""
    silent = b"".join(SILENT[wire])
    error = b'data: {"type": "error", "error": {"type": "api_error", "message": "m", "code": 500}}\n\n'
    assert type(await error_body_of(pool, wire, silent + error)) is ProviderError
    assert type(await error_body_of(pool, wire, silent)) is ProviderBadResponse


@OPENAI_SHAPED
@pytest.mark.parametrize(
    "telling",
    [
        HELLO,
        chunk({"content": " "}),
        chunk({"reasoning_content": "x"}),
        chunk({"reasoning": "x"}),
        chunk({"refusal": "no"}),
        chunk({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}),
        chunk({"function_call": {"name": "f"}}),
        chunk({"audio": {"id": "a"}}),
        chunk({}, "stop"),
        USAGE,
    ],
)
async def test_first_content_of_any_kind_starts_stream(pool: ConnectionPool, wire: str, telling: bytes) -> None:
    """Kind 18: nothing is held longer than that, and all of it passes in order, byte by byte."""
    silent = SILENT[wire]
    failing = b"".join(silent) + telling + b'data: {"error": {"message": "m"}}\n\n'
    async with canned(STREAM, failing) as server:
        stream = await open_stream(adapter_for(wire, pool, server.url), call(streams=True))
        passed = [b"data: %b\n\n" % (await anext(stream)).raw for _ in range(len(silent) + 1)]
        assert passed == [*silent, telling]
        with pytest.raises(ProviderError):
            await anext(stream)


@OPENAI_SHAPED
async def test_buffered_chunks_are_bounded(pool: ConnectionPool, wire: str) -> None:
    """Kind 18: a stream that says nothing for long is passed on as it is."""
    many = ROLE * (MAX_BUFFERED_CHUNKS + 10)
    large = chunk({"role": "x" * 70_000}) * 3
    for silent, held in ((many, MAX_BUFFERED_CHUNKS), (large, 1)):
        async with canned(STREAM, silent + b'data: {"error": {"message": "m"}}\n\n') as server:
            stream = await open_stream(adapter_for(wire, pool, server.url), call(streams=True))
            assert len(stream._arrived) == held
            with pytest.raises(ProviderError):
                async for _ in stream:
                    pass


# --- kind 19: blocks side by side


@ANTHROPIC
async def test_interleaved_blocks_stay_separate(pool: ConnectionPool, wire: str) -> None:
    """Kind 19: two tool calls, a text and a thought whose events alternate."""

    def delta(index: int, kind: str, **fields: str) -> bytes:
        return event("content_block_delta", index=index, delta={"type": kind, **fields})

    def tool(index: int, name: str) -> bytes:
        block = {"type": "tool_use", "id": name, "name": name, "input": {}}
        return event("content_block_start", index=index, content_block=block)

    body = b"".join(
        [
            A_START,
            event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}),
            tool(1, "a"),
            tool(2, "b"),
            delta(1, "input_json_delta", partial_json='{"x":'),
            delta(0, "thinking_delta", thinking="th"),
            delta(2, "input_json_delta", partial_json='{"y"'),
            event("content_block_start", index=3, content_block={"type": "text", "text": ""}),
            delta(3, "text_delta", text="Hel"),
            delta(1, "input_json_delta", partial_json="1}"),
            delta(0, "thinking_delta", thinking="ink"),
            event("content_block_stop", index=1),
            delta(2, "input_json_delta", partial_json=":2}"),
            delta(3, "text_delta", text="lo"),
            tool(4, "c"),
            event("content_block_stop", index=4),
            delta(0, "signature_delta", signature="s"),
            event("content_block_stop", index=0),
            event("content_block_stop", index=2),
            event("content_block_stop", index=3),
            event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 2}),
            event("message_stop"),
        ]
    )
    chunks = await stream_of(pool, wire, body)
    calls: dict[int, list[str]] = {}
    for piece in (piece for each in chunks for piece in each.delta.get("tool_calls", ())):
        made = calls.setdefault(piece["index"], ["", ""])
        made[0] += piece["function"].get("name", "")
        made[1] += piece["function"]["arguments"]
    assert calls == {0: ["a", '{"x":1}'], 1: ["b", '{"y":2}'], 2: ["c", "{}"]}
    assert text_of(chunks) == "Hello"
    thoughts = [block for each in chunks for block in each.delta.get("thinking_blocks", ())]
    assert thoughts == [{"type": "thinking", "thinking": "think", "signature": "s"}]
    assert "".join(each.delta.get("reasoning_content", "") for each in chunks) == "think"


@pytest.mark.parametrize("streams", [True], ids=["stream"])
async def test_interleaved_simulator_calls_stay_separate(adapter: ModelAdapter, streams: bool) -> None:
    """Kind 19, over every wire format."""
    tools = [{"type": "function", "function": {"name": name}} for name in ("clock", "weather")]
    chunks: list[ChatChunk] = []
    await collect(adapter, call("sim-interleaved", "call: clock,weather", streams=streams, tools=tools), chunks)
    calls: dict[int, list[str]] = {}
    for piece in (piece for each in chunks for piece in each.delta.get("tool_calls", ())):
        made = calls.setdefault(piece["index"], ["", ""])
        made[0] += piece["function"].get("name", "")
        made[1] += piece["function"]["arguments"]
    assert sorted(name for name, _ in calls.values()) == ["clock", "weather"]
    assert all(json.loads(arguments) == {} for _, arguments in calls.values())


# --- kind 5: what says nothing of the provider's health


@BOTH_STREAM
async def test_deadline_while_sending_is_no_route_failure(
    pool: ConnectionPool, simulator: ProviderSimulator, wire: str, streams: bool
) -> None:
    """Kind 5: one caller's long responses take the model from nobody. A provider that is silent is another matter."""
    adapter = adapter_for(wire, pool, url_of(wire, simulator))
    for model, health in (("sim-slow-stream-400@cut", Health.UNKNOWN), ("sim-hang@cut", Health.FAILS)):
        asked = call(model, "tokens:50", streams=streams, seconds=1.0)
        with pytest.raises(ProviderTimeout) as caught:
            await (collect(adapter, asked, []) if streams else complete(adapter, asked))
        verdict = failure_policy_of(caught.value)
        assert (verdict.retry, verdict.fall_back, verdict.health) == (False, True, health)


@BOTH_STREAM
async def test_too_large_response_is_no_route_failure(
    pool: ConnectionPool, simulator: ProviderSimulator, wire: str, streams: bool
) -> None:
    """Kind 5: it would be as large again."""
    adapter = adapter_for(wire, pool, url_of(wire, simulator))
    asked = call("sim-huge-body-40", streams=streams)
    with pytest.raises(ProviderBadResponse) as caught:
        await (collect(adapter, asked, []) if streams else complete(adapter, asked))
    verdict = failure_policy_of(caught.value)
    assert (verdict.retry, verdict.health) == (False, Health.UNKNOWN)
