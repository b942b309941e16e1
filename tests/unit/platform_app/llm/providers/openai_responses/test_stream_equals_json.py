"""Random streams of the Responses API, cut at random bytes: the same as the JSON form, or an error."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_app.errors import PlatformError, ProviderBadResponse
from platform_app.llm.http.event_stream import ResponseReader
from platform_app.llm.http.sse import SseParser
from platform_app.llm.providers.openai_responses.chat import stream as chat_stream
from platform_app.llm.providers.openai_responses.native import stream as native_stream
from platform_app.llm.responses import ChatChunk
from tests.support.providers.responses_events import event_streams, responses

EXAMPLES = 30


def read(reader: ResponseReader, raw: bytes, cuts: list[int] | None = None) -> list[ChatChunk]:
    """Return the chunks of a stream whose bytes arrive in parts."""
    parser, decoder = SseParser(), reader.make_decoder()
    ends = [0, *sorted(cuts or []), len(raw)]
    arrived = [event for start, end in pairwise(ends) for event in parser.feed(raw[start:end])]
    decoded = [None if decoder.complete else decoder.decode(event) for event in arrived]
    if not decoder.complete:
        decoder.finish()
    return [chunk for chunk in (*decoded, decoder.trailing) if chunk is not None]


def cuts_of(data: st.DataObject, raw: bytes) -> list[int]:
    return data.draw(st.lists(st.integers(0, len(raw)), max_size=6))


@settings(max_examples=EXAMPLES, deadline=None)
@given(responses(), st.data())
def test_translated_stream_equals_translated_json(response: dict[str, Any], data: st.DataObject) -> None:
    raw = data.draw(event_streams(response))
    whole = chat_stream.READER.read_whole(json.dumps(response).encode())
    chunks = read(chat_stream.READER, raw, cuts_of(data, raw))
    streamed = chat_stream.READER.assemble(chunks)
    assert streamed is not None
    assert (streamed.finish_reason, streamed.usage, streamed.counted) == (
        whole.finish_reason,
        whole.usage,
        whole.counted,
    )
    names = ("content", "refusal", "tool_calls", "reasoning_content", "reasoning_items", "annotations")
    expected = {name: whole.message.get(name) or None for name in names}
    assert {name: streamed.message.get(name) or None for name in names} == expected
    assert streamed.characters == whole.characters
    # The chunk with the finish reason, and the one with the usage behind it.
    ends = [chunk.last for chunk in chunks]
    assert ends == sorted(ends)
    assert ends.count(True) == 1 + (whole.counted is not None)


@settings(max_examples=EXAMPLES, deadline=None)
@given(responses(), st.data())
def test_native_events_pass_with_their_bytes(response: dict[str, Any], data: st.DataObject) -> None:
    raw = data.draw(event_streams(response))
    chunks = read(native_stream.READER, raw, cuts_of(data, raw))
    assert [b"data: %b\n\n" % chunk.raw in raw for chunk in chunks] == [True] * len(chunks)
    numbers = [chunk.body["sequence_number"] for chunk in chunks if chunk.body.get("sequence_number", 7) != 7]
    assert numbers == sorted(numbers)
    whole = native_stream.READER.read_whole(json.dumps(response).encode())
    assembled = native_stream.READER.assemble(chunks)
    assert assembled is not None
    assert assembled.body == whole.body == response
    assert (chunks[0].head["id"], chunks[-1].finish_reason) == ("resp_1", whole.finish_reason)
    assert (chunks[-1].usage, chunks[-1].last) == (whole.usage, True)


@settings(max_examples=EXAMPLES, deadline=None)
@given(responses())
def test_split_response_assembles_to_itself(response: dict[str, Any]) -> None:
    """A JSON response to a request for a stream becomes events, which a chat reads like the JSON."""
    whole = native_stream.READER.read_whole(json.dumps(response).encode())
    events = native_stream.READER.split(whole)
    assembled = native_stream.READER.assemble(events)
    assert assembled is not None
    assert assembled.body == response
    raw = b"".join(b"data: %b\n\n" % event.raw for event in events)
    chat = chat_stream.READER.assemble(read(chat_stream.READER, raw))
    assert chat is not None
    assert chat.message.get("tool_calls") == chat_stream.READER.read_whole(whole.raw).message.get("tool_calls")


@pytest.mark.parametrize("reader", [chat_stream.READER, native_stream.READER], ids=["chat", "native"])
@settings(max_examples=EXAMPLES, deadline=None)
@given(response=responses(), data=st.data())
def test_truncated_stream_is_never_complete(
    reader: ResponseReader, response: dict[str, Any], data: st.DataObject
) -> None:
    raw = data.draw(event_streams(response))
    last = raw.rindex(b"data: ")
    cut = data.draw(st.integers(0, last))
    with pytest.raises(PlatformError) as caught:
        read(reader, raw[:cut])
    assert type(caught.value) is ProviderBadResponse
