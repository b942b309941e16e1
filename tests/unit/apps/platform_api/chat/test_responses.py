"""A provider's response in the platform's contract."""

import json
from collections.abc import AsyncGenerator

import pytest

from apps.platform_api.chat.responses import PlatformContract
from platform_app.chat import ChatResult
from platform_app.errors import ProviderBadResponse
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.responses import ChatChunk, ModelResponse
from tests.support.fakes.core import context


def deep(levels: int) -> object:
    return json.loads("[" * levels + "]" * levels)


def completion(**message: object) -> ModelResponse:
    return ModelResponse(b"", {"id": "c1", "choices": [{"message": {"role": "assistant", **message}}]})


async def stream(*deltas: dict[str, object]) -> ChunkStream:
    async def chunks() -> AsyncGenerator[ChatChunk, None]:
        for delta in deltas:
            yield ChatChunk(b"", {"choices": [{"delta": delta}]})

    rest = chunks()
    return ChunkStream(await anext(rest), rest)


def result(response: ModelResponse | ChunkStream) -> ChatResult:
    return ChatResult("m", "sim", "up-m", response)


def test_json_response_has_output_and_ids() -> None:
    response = completion(content="hi")
    body = json.loads(bytes(PlatformContract(context(), "t1").whole(result(response), response).body))
    assert (body["output"], body["model"], body["provider"], body["conversation_id"]) == ("hi", "m", "sim", "t1")


@pytest.mark.parametrize(
    ("content", "output"),
    [
        ("hi", "hi"),
        ("", ""),
        (None, None),
        ([], None),
        ([{"type": "text", "text": "h"}, {"type": "text", "text": "i"}], "hi"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "hi"}], "hi"),
        ([{"type": "text", "text": "hi"}, {"type": "reference", "reference_ids": [1]}], "hi"),
        ([{"type": "output_text", "text": "hi", "annotations": []}], "hi"),
        ([{"type": "text", "text": {"value": "hi"}}], "hi"),
        (["h", "i"], "hi"),
        ({"type": "text", "text": "hi"}, "hi"),
        ([{"type": "image_url", "image_url": {"url": "https://a.example/b"}}], None),
        ([{"type": "text"}, 5, None, {"text": 5}], None),
        (5, None),
    ],
)
def test_output_is_the_text_of_content(content: object, output: str | None) -> None:
    """Content may be a list of parts, as Mistral sends it."""
    response = completion(content=content)
    body = json.loads(bytes(PlatformContract(context(), None).whole(result(response), response).body))
    assert (body["output"], body["message"]["content"]) == (output, content)


def test_unserializable_response_is_a_provider_error() -> None:
    response = completion(content="hi", extra=deep(300))
    with pytest.raises(ProviderBadResponse):
        PlatformContract(context(), None).whole(result(response), response)


async def test_unserializable_chunk_ends_stream_with_error() -> None:
    chunks = await stream({"content": "a"}, {"extra": deep(300)}, {"content": "b"})
    events = [event async for event in PlatformContract(context(), None).events(result(chunks), chunks)]
    assert [event.split(b"\n")[0] for event in events] == [b"event: delta", b"event: error"]
    assert b"provider_bad_response" in events[1]


async def test_unserializable_first_chunk_keeps_its_status() -> None:
    chunks = await stream({"extra": deep(300)})
    with pytest.raises(ProviderBadResponse):
        await anext(PlatformContract(context(), None).events(result(chunks), chunks))
