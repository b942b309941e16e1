"""Events that real servers send against the format: empty events, other line ends, and bytes that are not UTF-8. The
kinds are those of issue 11; the simulator plays one of each, and these tests send more of them as bytes."""

import json

import pytest

from platform_app.llm.http.transport.pool import ConnectionPool
from tests.support.providers.odd_responses import (
    BOTH_STREAM,
    DONE,
    END,
    GOOD,
    HELLO,
    JSON,
    OPENAI_SHAPED,
    ROLE,
    WHOLE,
    stream_of,
)
from tests.support.providers.wires import adapter_for, call, complete, text_of
from tests.support.servers.network.tcp import canned

EMPTY_EVENTS: dict[str, bytes] = {
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


@pytest.mark.parametrize("name", EMPTY_EVENTS)
async def test_empty_event_is_skipped(pool: ConnectionPool, wire: str, name: str) -> None:
    """Kinds 14 and 15, before, within and after the content."""
    before, first, second, end = GOOD[wire]
    empty = EMPTY_EVENTS[name]
    for body in (
        empty + before + first + second + end,
        before + empty + first + second + end,
        before + first + empty + second + end,
        before + first + second + empty + end,
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
    """Kind 15. There is no finish_reason, so only [DONE] completes the response."""
    assert text_of(await stream_of(pool, wire, ROLE + HELLO + done)) == "Hello"


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n"], ids=["CRLF", "CR", "LF"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["no bom", "bom"])
async def test_line_ends_and_bom_are_accepted(pool: ConnectionPool, wire: str, end: bytes, bom: bytes) -> None:
    """Kind 17: CRLF, CR and LF, with and without a byte order mark."""
    body = bom + b"".join(GOOD[wire]).replace(b"\n", end)
    assert text_of(await stream_of(pool, wire, body)) == "Hello world"


@OPENAI_SHAPED
async def test_last_event_without_empty_line_is_read(pool: ConnectionPool, wire: str) -> None:
    assert text_of(await stream_of(pool, wire, ROLE + HELLO + END.rstrip())) == "Hello"


HALVES = {
    "first half": rb"\ud83d",
    "second half": rb"\ude00",
    "upper case": rb"\uD83D",
    "within words": rb"a\ud83db",
}


@pytest.mark.parametrize("name", HALVES)
async def test_half_surrogate_in_stream_passes(pool: ConnectionPool, wire: str, name: str) -> None:
    """Kind 16: OpenAI's format passes the bytes unchanged, Anthropic's the content."""
    before, first, second, end = GOOD[wire]
    half = first.replace(b"Hello", HALVES[name])
    chunks = await stream_of(pool, wire, before + half + second + end)
    assert chunks[1 if wire != "azure" else 2].delta["content"] == json.loads(b'"%b"' % HALVES[name])
    if wire in ("openai", "azure"):
        assert half.removeprefix(b"data: ").rstrip() in [each.raw for each in chunks]


@pytest.mark.parametrize("name", HALVES)
async def test_half_surrogate_in_json_passes(pool: ConnectionPool, wire: str, name: str) -> None:
    raw = json.dumps(WHOLE[wire]).encode().replace(b"Hello", HALVES[name])
    async with canned(JSON, raw) as server:
        done = await complete(adapter_for(wire, pool, server.url), call())
    assert done.message["content"] == json.loads(b'"%b world"' % HALVES[name])
    if wire in ("openai", "azure"):
        assert done.raw == raw


@pytest.mark.parametrize(
    "odd", [b"\xf0\x9f", b"\xff", b"a\tb", b"\x01"], ids=["half a character", "no utf-8", "a tab", "a control"]
)
@BOTH_STREAM
async def test_bytes_invalid_in_json_are_accepted(pool: ConnectionPool, wire: str, odd: bytes, streams: bool) -> None:
    """Kind 16: the client gets UTF-8."""
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
