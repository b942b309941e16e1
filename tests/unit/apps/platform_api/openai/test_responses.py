"""A response in OpenAI's contract: the provider's bytes, except the model's name and unrequested token counts."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest
from starlette.responses import Response

from apps.platform_api.openai.responses import DONE, OpenAIContract
from platform_app.chat import ChatResult
from platform_app.errors import PlatformError, ProviderBadResponse
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.codecs import lenient_json
from platform_app.llm.responses import ChatChunk, ModelResponse
from tests.support.fakes.core import context

CHUNK = b'{"id":"c","model":"up","choices":[{"index":0,"delta":{"content":"Hi"},"logprobs":1.50}],"usage":null}'
USAGE = b'{"id":"c","model":"up","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'


def chunk(raw: bytes) -> ChatChunk:
    return ChatChunk(raw, lenient_json.loads(raw))


def events(*raws: bytes, alias: str = "up", wants_usage: bool, error: PlatformError | None = None) -> list[bytes]:
    closed = []

    async def rest() -> AsyncGenerator[ChatChunk, None]:
        try:
            for raw in raws[1:]:
                yield chunk(raw)
            if error is not None:
                raise error
        finally:
            closed.append(True)

    async def collect() -> list[bytes]:
        stream = ChunkStream(chunk(raws[0]), rest())
        result = ChatResult(alias, "provider", "up", stream)
        return [event async for event in OpenAIContract(context(), wants_usage).events(result, stream)]

    got = asyncio.run(collect())
    assert closed
    return got


def whole(model: str, response: ModelResponse) -> Response:
    return OpenAIContract(context()).whole(ChatResult(model, "p", "up", response), response)


def test_response_is_the_providers_bytes() -> None:
    raw = b'{ "model":"up", "choices":[{"message":{"content":"\\u00e9"}}],"x":1.0 }'
    response = whole("up", ModelResponse(raw, orjson.loads(raw)))
    assert response.body == raw
    assert response.headers["content-type"] == "application/json"


def test_alias_changes_only_the_models_name() -> None:
    raw = b'{ "model":"up-2026", "choices":[{"message":{"content":"\\u00e9"}}],"x":1.0 }'
    assert whole("mine", ModelResponse(raw, orjson.loads(raw))).body == raw.replace(b"up-2026", b"mine")


def test_requested_usage_keeps_every_byte() -> None:
    assert events(CHUNK, USAGE, wants_usage=True) == [b"data: %b\n\n" % CHUNK, b"data: %b\n\n" % USAGE, DONE]


def test_unrequested_usage_is_removed() -> None:
    assert events(CHUNK, USAGE, wants_usage=False) == [b"data: %b\n\n" % CHUNK.replace(b',"usage":null', b""), DONE]


def test_alias_is_in_every_chunk() -> None:
    for wants_usage, count in ((True, 2), (False, 1)):
        *chunks, done = events(CHUNK, USAGE, alias="mine", wants_usage=wants_usage)
        assert len(chunks) == count
        assert done == DONE
        assert all(b'"model":"mine"' in event and b'"up"' not in event for event in chunks)
        assert all((b'"usage"' in event) is wants_usage for event in chunks)


def test_unrequested_usage_beside_text_is_removed() -> None:
    """Some servers send the usage with the last text, without a request for it."""
    last: dict[str, Any] = {**orjson.loads(CHUNK), "usage": {"total_tokens": 2}}
    (event, _) = events(orjson.dumps(last), alias="mine", wants_usage=False)
    del last["usage"]
    assert orjson.loads(event.removeprefix(b"data: ")) == {**last, "model": "mine"}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_multiline_json_becomes_one_event(end: bytes) -> None:
    raw = end.join([b"{", b'"model": "up",', b'"choices": [{"delta": {"content": "a\\nb"}}]}'])
    event, _ = events(raw, wants_usage=True)
    assert event.count(b"\n") == 2
    assert b"\r" not in event
    assert orjson.loads(event.removeprefix(b"data: ")) == orjson.loads(raw)


def test_failed_stream_ends_with_error_event() -> None:
    error = ProviderBadResponse("The provider's answer was not understood.")
    *_, last = events(CHUNK, wants_usage=True, error=error)
    assert orjson.loads(last.removeprefix(b"data: ")) == {
        "error": {
            "message": "The provider's answer was not understood.",
            "type": "server_error",
            "param": None,
            "code": "provider_bad_response",
            "request_id": "req-1",
        }
    }


HALF = b'{"id":"c","model":"up","choices":[{"index":0,"delta":{"content":"\\ud83d"}}],"usage":null}'


@pytest.mark.parametrize("alias", ["up", "mine"])
@pytest.mark.parametrize("raw", [HALF, HALF.replace(b'"id":"c"', b'"id":"c","x":{"model":"y","usage":null}')])
def test_lone_surrogate_stays_escaped_when_members_change(alias: str, raw: bytes) -> None:
    """Half a surrogate pair stays the escape that the provider sent, also where the model or the usage is replaced."""
    for wants_usage in (True, False):
        event, done = events(raw, alias=alias, wants_usage=wants_usage)
        assert done == DONE
        assert rb"\ud83d" in event
        body = json.loads(event.removeprefix(b"data: "))
        assert body["choices"][0]["delta"]["content"] == "\ud83d"
        assert (body["model"], "usage" in body) == (alias, wants_usage)
