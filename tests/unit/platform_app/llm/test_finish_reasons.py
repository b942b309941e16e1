"""Why a response ended, as servers write it, for clients of every format."""

import json
from typing import Any

import pytest

from platform_app.errors import ProviderBadResponse, ProviderError
from platform_app.llm.finish_reasons import kind_of_end, reason_of
from platform_app.llm.providers.openai.format import OpenAIEventDecoder
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.translation.messages.events import MessageEvents
from platform_app.llm.translation.messages.message import message_json
from platform_app.llm.translation.responses.envelope import Envelope
from platform_app.llm.translation.responses.response import response_of_chat

LENGTHS = ["length", "LENGTH", "max_tokens", "MAX_TOKENS", "model_length", {"type": "length", "length": 16}]
FILTERS = [
    "content_filter", "safety", "SAFETY", "sensitive", "content_filter: PROHIBITED_CONTENT", "recitation",
    {"type": "content_filter"},
]  # fmt: skip
BROKEN_OFF = ["abort", "insufficient_system_resource", "cancelled", {"type": "abort", "message": "stopped"}]
COMPLETE = ["stop", "eos", ["stop"], "tool_calls", 1]


def response(reason: Any) -> ModelResponse:
    message = {"role": "assistant", "content": "Hel"}
    return ModelResponse(b"", {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": reason}]})


def streamed(reason: Any) -> list[dict[str, Any]]:
    writer, events = MessageEvents("m"), []
    for delta, given in (({"content": "Hel"}, None), ({}, reason)):
        events += list(writer.add(ChatChunk(b"", {"choices": [{"delta": delta, "finish_reason": given}]})))
    return events + list(writer.finish(None))


@pytest.mark.parametrize(
    ("reasons", "stop_reason", "status"),
    [
        (LENGTHS, "max_tokens", {"reason": "max_output_tokens"}),
        (FILTERS, "refusal", {"reason": "content_filter"}),
        (COMPLETE, "end_turn", None),
    ],
    ids=["length", "filter", "complete"],
)
def test_every_client_sees_why_the_response_ended(reasons: list[Any], stop_reason: str, status: object) -> None:
    for reason in reasons:
        given = response(reason)
        assert json.loads(message_json(given, "m", None))["stop_reason"] == stop_reason, reason
        assert streamed(reason)[-2]["delta"]["stop_reason"] == stop_reason, reason
        assert response_of_chat(given, Envelope({}, "m"), None)["incomplete_details"] == status, reason


@pytest.mark.parametrize("reason", BROKEN_OFF)
def test_response_that_was_broken_off_is_an_error(reason: Any) -> None:
    with pytest.raises(ProviderError):
        message_json(response(reason), "m", None)
    with pytest.raises(ProviderError):
        streamed(reason)
    assert response_of_chat(response(reason), Envelope({}, "m"), None)["status"] == "failed"


def test_cut_arguments_of_any_length_reason_are_kept() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"a": 1, "b'}}
    writer = MessageEvents("m")
    list(writer.add(ChatChunk(b"", {"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "model_length"}]})))
    assert list(writer.finish(None))[-2]["delta"]["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("reason", ["null", "None", "", None])
def test_text_that_says_null_ends_no_choice(reason: str | None) -> None:
    assert reason_of({"finish_reason": reason}) is None
    decoder = OpenAIEventDecoder()
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": reason}]}
    decoded = decoder.decode(json.dumps(chunk).encode())
    assert decoded is not None
    assert (decoded.last, decoded.finish_reason) == (False, None)
    with pytest.raises(ProviderBadResponse):
        decoder.finish()


def test_unknown_reason_is_a_complete_response() -> None:
    assert [kind_of_end(reason) for reason in (None, "stop", "weird")] == [None, None, None]
