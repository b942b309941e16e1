"""A provider's Responses pass as they came, but for the members that are the gateway's."""

import json
from typing import Any

import orjson
import pytest

from apps.platform_api.responses.json_members import with_texts
from apps.platform_api.responses.native import NativeEvents, Renamed
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.translation.responses.envelope import Envelope
from tests.support.providers.streams.responses_grammar import check_stream

RAW = b'{ "id" : "resp_1", "n": 1.50, "output":[{"id":"msg_1","model":"x","text":"a \\"id\\": b"}], "model":"gpt-5" }'


def _chunk(body: dict[str, Any]) -> ChatChunk:
    return ChatChunk(orjson.dumps(body), body)


def _stream(*more: dict[str, Any]) -> list[ChatChunk]:
    response = {"id": "resp_1", "object": "response", "status": "in_progress", "model": "gpt-5", "output": []}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": response}, *more]
    return [_chunk({**event, "sequence_number": number}) for number, event in enumerate(events)]


def test_members_are_set_by_path_and_nothing_else_changes() -> None:
    texts: dict[tuple[str, ...], str] = {("id",): "resp_ours", ("model",): "smart"}

    assert with_texts(RAW, json.loads(RAW), texts) == RAW.replace(b'"resp_1"', b'"resp_ours"').replace(
        b'"gpt-5"', b'"smart"'
    )


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b'{"response":{"id":null},"id":"a"}', ("response", "id")),
        (b'{"id":7}', ("id",)),
        (b'{"i\\u0064":"a"}', ("id",)),
        (b'{"i\\u0064":"a","inner":{"id":"a"}}', ("id",)),
        (b'{"text":"\\"id\\":","id":"a"}', ("id",)),
        (b'{"inner":{"id":"a"},"id":"a"}', ("id",)),
    ],
)
def test_only_the_member_at_the_path_is_set(raw: bytes, path: tuple[str, ...]) -> None:
    expected: Any = json.loads(raw)
    holder = expected
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = "new"
    assert json.loads(with_texts(raw, json.loads(raw), {path: "new"})) == expected


def test_whole_response_without_changes_passes_its_bytes() -> None:
    assert Renamed().whole(ModelResponse(RAW, json.loads(RAW))) == RAW


def test_events_get_public_model_and_signed_ids() -> None:
    writer = NativeEvents(Renamed("smart", lambda given: f"{given}-signed", "resp_before"), Envelope({}, "smart"))
    done = {
        "id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5", "output": [],
        "previous_response_id": "resp_0",
    }  # fmt: skip
    raw = b"".join(map(writer.chunk, _stream({"type": "response.completed", "response": done}))) + writer.finish(None)

    rebuilt = check_stream(raw)

    assert rebuilt.response["id"] == "resp_1-signed"
    assert rebuilt.response["model"] == "smart"
    assert rebuilt.response["previous_response_id"] == "resp_before"
    assert b"gpt-5" not in raw


def test_unknown_event_passes_its_bytes() -> None:
    writer = NativeEvents(Renamed(), Envelope({}, "m"))
    chunk = ChatChunk(b'{"type":"response.new_thing" , "x":1.0}', {"type": "response.new_thing", "x": 1.0})

    assert writer.chunk(chunk) == b'event: response.new_thing\ndata: {"type":"response.new_thing" , "x":1.0}\n\n'


@pytest.mark.parametrize("events", [0, 1])
def test_stream_without_terminal_event_gets_response_failed(events: int) -> None:
    """The numbers continue, and the response keeps its id, which SDKs compare."""
    writer = NativeEvents(Renamed(), Envelope({}, "m"))

    rebuilt = check_stream(b"".join(map(writer.chunk, _stream()[:events])) + writer.finish(None))

    assert rebuilt.terminal == "response.failed"
    assert rebuilt.error is not None
    assert not events or rebuilt.response["id"] == "resp_1"


def test_failure_after_terminal_event_adds_nothing() -> None:
    writer = NativeEvents(Renamed(), Envelope({}, "m"))
    failed = {"id": "resp_1", "object": "response", "status": "failed", "error": {"code": "server_error"}}
    for chunk in _stream({"type": "response.failed", "response": failed}):
        writer.chunk(chunk)

    assert writer.fail("server_error", "The connection was closed.") == b""
    assert writer.finish(None) == b""


@pytest.mark.parametrize("ends", ["\n", "\r", "\r\n"])
def test_event_name_with_line_ends_forges_no_event(ends: str) -> None:
    writer = NativeEvents(Renamed(), Envelope({}, "m"))
    kind = f"response.x{ends}data: {{}}{ends}{ends}event: response.completed"
    written = writer.chunk(_chunk({"type": kind}))
    assert written.startswith(b"event: response.xdata: {}event: response.completed\ndata: ")
    assert written.count(b"\n") == 3
    assert b"\r" not in written
