"""Bodies with small errors that can be used, and bodies that look complete and are not."""

import json
from typing import Any

import pytest

from platform_app.errors import ContentFiltered, PlatformError, ProviderBadResponse, ProviderError
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.responses import ChatChunk
from tests.support.providers.odd_responses import DONE, HELLO, JSON, OPENAI_SHAPED, STREAM, WHOLE, chunk
from tests.support.providers.wires import adapter_for, call, collect, complete, text_of
from tests.support.servers.network.tcp import answering, canned


def body_of(wire: str) -> bytes:
    return json.dumps(WHOLE[wire]).encode()


async def text_of_both(pool: ConnectionPool, wire: str, response: bytes) -> set[str]:
    """Return the text that callers get who asked for JSON, and for a stream."""
    async with answering(response) as server:
        adapter = adapter_for(wire, pool, server.url)
        chunks: list[ChatChunk] = []
        await collect(adapter, call(streams=True), chunks)
        return {text_of(chunks), (await complete(adapter, call())).message["content"]}


def http(body: bytes, content_type: bytes = JSON, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nConnection: close\r\n%bContent-Length: %d\r\n\r\n"
    return head % (status, content_type, headers, len(body)) + body


KEEP_ALIVE = [b"\n" * 71, b" " * 5000, b": PROCESSING\n\n" * 40, b"\n: a\n:\n\n"]


@pytest.mark.parametrize("before", KEEP_ALIVE, ids=["lines", "spaces", "comments", "both"])
@pytest.mark.parametrize("after", [b"", b"\n", b"\n\ndata: [DONE]\n\n"], ids=["nothing", "line", "done"])
async def test_keep_alive_before_json_is_skipped(pool: ConnectionPool, wire: str, before: bytes, after: bytes) -> None:
    for content_type in (JSON, STREAM):
        response = http(before + body_of(wire) + after, content_type)
        assert await text_of_both(pool, wire, response) == {"Hello world"}


@pytest.mark.parametrize("status", [b"201 Created", b"203 Non-Authoritative Information", b"206 Partial Content"])
async def test_body_decides_over_any_successful_status(pool: ConnectionPool, wire: str, status: bytes) -> None:
    assert await text_of_both(pool, wire, http(body_of(wire), status=status)) == {"Hello world"}


@pytest.mark.parametrize("encoding", [b"", b"utf-8", b"none", b"Identity", b"UTF-8, identity"])
async def test_content_encoding_of_no_compression_passes(pool: ConnectionPool, wire: str, encoding: bytes) -> None:
    response = http(body_of(wire), headers=b"Content-Encoding: %b\r\n" % encoding)
    assert await text_of_both(pool, wire, response) == {"Hello world"}


@pytest.mark.parametrize("encoding", [b"gzip", b"X-Gzip", b"br", b"zstd", b"deflate", b"identity, gzip"])
async def test_compressed_body_is_refused(pool: ConnectionPool, wire: str, encoding: bytes) -> None:
    async with answering(http(body_of(wire), headers=b"Content-Encoding: %b\r\n" % encoding)) as server:
        with pytest.raises(ProviderBadResponse):
            await complete(adapter_for(wire, pool, server.url), call())


def choice_of(reason: object, **fields: Any) -> bytes:
    return json.dumps({"id": "c", "choices": [{"index": 0, "finish_reason": reason, **fields}]}).encode()


@OPENAI_SHAPED
@pytest.mark.parametrize("reason", ["length", "stop", "MAX_TOKENS", {"type": "length"}])
async def test_response_that_ended_at_once_is_empty(pool: ConnectionPool, wire: str, reason: object) -> None:
    for body in (choice_of(reason), choice_of(reason, message=None)):
        async with canned(JSON, body) as server:
            response = await complete(adapter_for(wire, pool, server.url), call())
        assert response.message == {"role": "assistant", "content": ""}
        assert json.loads(response.raw) == response.body


@OPENAI_SHAPED
@pytest.mark.parametrize(
    "reason", ["recitation", "guardrail_intervened", "sensitive", "refusal", "image_safety", "RECITATION", "blocked"]
)
async def test_refused_response_without_message_is_filtered(pool: ConnectionPool, wire: str, reason: str) -> None:
    async with canned(JSON, choice_of(reason, message=None)) as server:
        with pytest.raises(ContentFiltered):
            await complete(adapter_for(wire, pool, server.url), call())


@OPENAI_SHAPED
@pytest.mark.parametrize("content", [{"text": "Hi"}, {"delta": {"content": "Hi"}}, {"content": "Hi"}])
async def test_content_of_another_api_is_refused(pool: ConnectionPool, wire: str, content: dict[str, object]) -> None:
    async with canned(JSON, choice_of("stop", **content)) as server:
        with pytest.raises(ProviderBadResponse):
            await complete(adapter_for(wire, pool, server.url), call())


ERROR = {"message": "CUDA out of memory", "code": 502}


@OPENAI_SHAPED
async def test_error_beside_choices_fails_whole_response(pool: ConnectionPool, wire: str) -> None:
    message = {"role": "assistant", "content": "Hel"}
    for body in (
        {**json.loads(choice_of("stop", message=message)), "error": ERROR},
        json.loads(choice_of(None, message=message, error=ERROR)),
    ):
        async with canned(JSON, json.dumps(body).encode()) as server:
            with pytest.raises(ProviderError):
                await complete(adapter_for(wire, pool, server.url), call())


@OPENAI_SHAPED
@pytest.mark.parametrize(
    "failure",
    [
        b"data: error: CUDA out of memory\n\n",
        b"event: error\ndata: worker crashed\n\n",
        b"error: upstream died\n\n",
        chunk({}).replace(b'"finish_reason": null', b'"finish_reason": null, "error": {"message": "x", "code": 502}'),
    ],
)
async def test_error_before_the_end_fails_stream(pool: ConnectionPool, wire: str, failure: bytes) -> None:
    chunks: list[ChatChunk] = []
    async with canned(STREAM, HELLO, failure, DONE) as server:
        with pytest.raises(PlatformError) as raised:
            await collect(adapter_for(wire, pool, server.url), call(streams=True), chunks)
    assert isinstance(raised.value, ProviderBadResponse | ProviderError)
    assert raised.value.provider_message
    assert text_of(chunks) == "Hello"
