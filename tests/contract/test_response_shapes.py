"""Provider responses with values of wrong types, in every wire format and for every client format.

The mutations are seeded, so every run has the same. Reading and rewriting them may refuse a response with an error of
ours, and nothing else: any other exception would be a 500, or a stream without an end.
"""

import copy
import json
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from apps.platform_api.chat.responses import text_of_content
from apps.platform_api.openai.responses import _data
from apps.platform_api.responses.native import NativeEvents, Renamed
from platform_app.errors import PlatformError
from platform_app.llm.codecs.lenient_json import Unwritable
from platform_app.llm.formats import ApiFormat
from platform_app.llm.http.event_stream import ResponseReader, _chunks_in
from platform_app.llm.providers.anthropic.adapter import NATIVE_READER
from platform_app.llm.providers.anthropic.adapter import READER as ANTHROPIC
from platform_app.llm.providers.anthropic.native.response import read_token_count
from platform_app.llm.providers.model_list import read_model_list
from platform_app.llm.providers.openai.format import READER as OPENAI
from platform_app.llm.providers.openai.format import read_embeddings
from platform_app.llm.providers.openai_responses.chat.stream import READER as RESPONSES_AS_CHAT
from platform_app.llm.providers.openai_responses.native.stream import READER as RESPONSES
from platform_app.llm.providers.tools.custom_tools import CustomTools
from platform_app.llm.providers.tools.names import ToolNames
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.translation.messages.events import MessageEvents
from platform_app.llm.translation.messages.message import message_json
from platform_app.llm.translation.responses.envelope import Envelope
from platform_app.llm.translation.responses.response import response_of_chat
from platform_app.llm.translation.responses.stream import ResponseWriter

ROUNDS = 150
Json = dict[str, Any]
ODD: list[Any] = [
    None, 0, -1, 1.5, True, False, "", "x", "None", "\ud83d", 10**23, float("inf"), float("nan"), [], {}, [None], ["x"],
    [{}], {"x": None}, -0.0, [[]], {"type": None}, {"type": "text", "text": None}, {"type": []},
]  # fmt: skip


def _chunk(delta: Json, reason: str | None = None) -> Json:
    logprobs = {"content": [{"token": "a", "logprob": -1, "bytes": [1], "top_logprobs": []}]}
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def _call(index: int, name: str, arguments: str) -> Json:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": f"call_{index}", "type": "function", "function": function}


CALLS = [_call(0, "f", "{}"), _call(1, "g", '{"input": "x"}')]
THINKING = {"type": "thinking", "thinking": "t", "signature": "s"}
ITEM = {
    "id": "r", "type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}], "encrypted_content": "e",
}  # fmt: skip
CITATION = {"type": "url_citation", "url_citation": {"url": "u", "start_index": 0, "end_index": 1}}
CHAT_USAGE = {
    "prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 1},
}  # fmt: skip
PARTS = [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": [{"type": "text", "text": "b"}]}]
CHAT_EVENTS: list[Json] = [
    _chunk({"role": "assistant", "content": ""}),
    _chunk({"reasoning_content": "t", "thinking_blocks": [THINKING], "reasoning_items": [ITEM]}),
    _chunk({"content": "Hi"}),
    _chunk({"content": PARTS, "annotations": [CITATION], "refusal": "no"}),
    _chunk({"tool_calls": CALLS}),
    _chunk({"function_call": {"name": "f", "arguments": ""}}),
    _chunk({}, "stop"),
    {"id": "c", "choices": [], "usage": CHAT_USAGE},
]
CHAT: Json = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant", "content": PARTS, "refusal": None, "reasoning_content": "t",
                "thinking_blocks": [THINKING], "tool_calls": CALLS, "annotations": [CITATION],
            },
            "logprobs": {"content": [{"token": "a"}]},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": CHAT_USAGE,
}  # fmt: skip
USAGE = {
    "input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 1,
    "cache_creation": {"ephemeral_5m_input_tokens": 1},
}  # fmt: skip
MESSAGE: Json = {
    "id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
    "content": [
        THINKING,
        {"type": "text", "text": "Hi", "citations": [{"type": "x"}]},
        {"type": "tool_use", "id": "a", "name": "g", "input": {"input": "x", "n": 5}},
        {"type": "redacted_thinking", "data": "d"},
    ],
    "stop_sequence": None, "stop_details": {"explanation": "e"}, "usage": USAGE,
}  # fmt: skip


def _block(index: int, start: Json, *deltas: Json) -> Iterator[Json]:
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


MESSAGE_EVENTS: list[Json] = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "ping"},
    *_block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "t"},
        {"type": "signature_delta", "signature": "s"},
    ),
    *_block(
        1,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "Hi"},
        {"type": "citations_delta", "citation": {}},
    ),
    *_block(
        2,
        {"type": "tool_use", "id": "a", "name": "g", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"input": "x"}'},
    ),
    {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": USAGE},
    {"type": "message_stop"},
]
TEXT = {
    "type": "output_text", "text": "Hi", "annotations": [{"type": "url_citation", "url": "u", "start_index": 0}],
    "logprobs": [{"token": "a"}],
}  # fmt: skip
ITEMS: list[Json] = [
    ITEM,
    {"id": "i", "type": "message", "role": "assistant", "content": [TEXT, {"type": "refusal", "refusal": "n"}]},
    {"id": "f", "type": "function_call", "call_id": "a", "name": "g", "arguments": "{}", "status": "completed"},
    {"id": "k", "type": "custom_tool_call", "call_id": "b", "name": "h", "input": "x"},
]
RESPONSE: Json = {
    "id": "resp", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": ITEMS,
    "incomplete_details": None, "error": None,
    "usage": {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": 2, "total_tokens": 7},
}  # fmt: skip
RESPONSE_EVENTS: list[Json] = [
    {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "output": []}, "sequence_number": 0},
    {"type": "response.output_item.added", "output_index": 0, "item": {**ITEM, "summary": []}},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "t"},
    {"type": "response.output_item.done", "output_index": 0, "item": ITEM},
    {"type": "response.output_item.added", "output_index": 1, "item": {**ITEMS[1], "content": []}},
    {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "Hi", "logprobs": []},
    {"type": "response.output_item.done", "output_index": 1, "item": ITEMS[1]},
    {"type": "response.output_item.added", "output_index": 2, "item": {**ITEMS[2], "arguments": ""}},
    {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{}"},
    {"type": "response.output_item.done", "output_index": 2, "item": ITEMS[2]},
    {"type": "response.output_item.done", "output_index": 3, "item": ITEMS[3]},
    {"type": "response.completed", "response": RESPONSE},
]
NAMES, CUSTOM = ToolNames({"client.g": "g"}), CustomTools(frozenset({"g"}))
CASES: dict[str, tuple[ResponseReader, Json, list[Json], bytes]] = {
    "openai": (OPENAI, CHAT, CHAT_EVENTS, b"data: [DONE]\n\n"),
    "openai with other names": (NAMES.reader(OPENAI), CHAT, CHAT_EVENTS, b"data: [DONE]\n\n"),
    "anthropic": (ANTHROPIC, MESSAGE, MESSAGE_EVENTS, b""),
    "anthropic with custom tools": (CUSTOM.reader(ANTHROPIC), MESSAGE, MESSAGE_EVENTS, b""),
    "anthropic native": (NATIVE_READER, MESSAGE, MESSAGE_EVENTS, b""),
    "responses as chat": (RESPONSES_AS_CHAT, RESPONSE, RESPONSE_EVENTS, b""),
    "responses": (RESPONSES, RESPONSE, RESPONSE_EVENTS, b""),
}


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in members:
        yield from _paths(each, (*path, name))


def _mutated(value: Json, chance: random.Random) -> Json:
    made = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 2))):
        *path, last = chance.choice(list(_paths(made)) or [("x",)])
        holder: Any = made
        for name in path:
            holder = holder[name]
        if chance.random() < 0.2:
            holder.pop(last, None) if isinstance(holder, dict) else holder.pop(last)
        else:
            holder[last] = copy.deepcopy(chance.choice(ODD))
    return made


def _events(events: list[Json], chance: random.Random) -> list[Json]:
    made = list(events)
    here, there = chance.randrange(len(made)), chance.randrange(len(made))
    match chance.randrange(10):
        case 0:
            del made[here]
        case 1:
            made.insert(there, made[here])
        case 2:
            made[here], made[there] = made[there], made[here]
        case _:
            made[here] = _mutated(made[here], chance)
    return made


def _tried(what: Callable[[], Any]) -> Any:
    try:
        return what()
    except (PlatformError, Unwritable):
        return None


def _stream_read(chunks: list[ChatChunk]) -> None:
    """Read a stream as every client of its format does."""

    def to_responses(writer: ResponseWriter | NativeEvents) -> None:
        for chunk in chunks:
            writer.chunk(chunk)
        writer.finish(None)

    def to_messages() -> None:
        writer = MessageEvents("m")
        for chunk in chunks:
            list(writer.add(chunk))
        list(writer.finish(None))

    for chunk in chunks:
        assert (chunk.text, chunk.id, chunk.finish_reason, chunk.usage, chunk.reported, chunk.last) is not None
        assert (chunk.delta, chunk.carries_content, chunk.characters) is not None
    if not chunks:
        return
    if chunks[0].format is ApiFormat.CHAT:
        _tried(to_messages)
        _tried(lambda: to_responses(ResponseWriter(Envelope({}, "m"))))
        for wants_usage in (True, False):
            _tried(lambda shown=wants_usage: [_data(chunk, "alias", shown) for chunk in chunks])  # type: ignore[misc]
    elif chunks[0].format is ApiFormat.RESPONSES:
        _tried(lambda: to_responses(NativeEvents(Renamed("alias"), Envelope({}, "m"))))


def _whole_read(response: ModelResponse) -> None:
    assert (response.id, response.generated, response.usage, response.reported, response.characters) is not None
    if response.format is ApiFormat.CHAT:
        _tried(lambda: message_json(response, "m", response.usage))
        _tried(lambda: response_of_chat(response, Envelope({}, "m"), response.usage))
        assert (text_of_content(response.message.get("content")), response.finish_reason) is not None


def _chunks(raw: bytes, reader: ResponseReader) -> list[ChatChunk]:
    """Return the chunks that arrive before a failure."""
    arrived: list[ChatChunk] = []

    def read(chunks: Iterable[ChatChunk]) -> None:
        arrived.extend(chunks)

    _tried(lambda: read(_chunks_in(raw, reader.make_decoder())))
    return arrived


@pytest.mark.parametrize("name", CASES)
def test_odd_whole_responses_are_read_or_refused(name: str) -> None:
    reader, response, _, _ = CASES[name]
    chance = random.Random(name)
    for _ in range(ROUNDS):
        raw = json.dumps(_mutated(response, chance)).encode()
        read: ModelResponse | None = _tried(lambda raw=raw: reader.read_whole(raw))  # type: ignore[misc]
        if read is not None:
            _whole_read(read)
            _stream_read(_tried(lambda read=read: reader.split(read)) or [])  # type: ignore[misc]


@pytest.mark.parametrize("name", CASES)
def test_odd_streams_are_read_or_refused(name: str) -> None:
    reader, _, events, end = CASES[name]
    chance = random.Random(name)
    for _ in range(ROUNDS):
        made = _events(events, chance)
        raw = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in made) + end
        chunks = _chunks(raw, reader)
        _stream_read(chunks)
        whole = _tried(lambda chunks=chunks: reader.assemble(chunks))  # type: ignore[misc]
        if whole is not None:
            _whole_read(whole)


EMBEDDINGS: Json = {
    "object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "usage": {"prompt_tokens": 1, "total_tokens": 1},
}  # fmt: skip
OTHERS: dict[str, tuple[Callable[[bytes], object], Json]] = {
    "embeddings": (read_embeddings, EMBEDDINGS),
    "count of tokens": (read_token_count, {"input_tokens": 5, "details": {"a": [1]}}),
    "list of models": (read_model_list, {"object": "list", "data": [{"id": "m", "object": "model"}]}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_odd_other_responses_are_read_or_refused(name: str) -> None:
    read, response = OTHERS[name]
    chance = random.Random(name)
    for _ in range(ROUNDS):
        raw = json.dumps(_mutated(response, chance)).encode()
        made = _tried(lambda raw=raw: read(raw))  # type: ignore[misc]
        if isinstance(made, ModelResponse):
            assert (made.id, made.usage, made.reported, made.characters) is not None
