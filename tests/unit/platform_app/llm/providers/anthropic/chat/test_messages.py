"""OpenAI's messages as Anthropic's: the system prompt, turns, tool calls, thinking, images and documents."""

from typing import Any

import pytest

from tests.support.providers.anthropic_requests import PNG, TURN, USER, refused, translated

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("clock", "weather")]


def turns(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = translated(messages=list(messages), tools=TOOLS)["messages"]
    return made


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def test_system_messages_are_separated() -> None:
    request = translated(
        messages=[
            {"role": "system", "content": "one"},
            USER,
            {"role": "developer", "content": [text("two"), text("three")]},
            {"role": "assistant", "content": "ho"},
        ]
    )
    assert request["system"] == [text("one"), text("two"), text("three")]
    assert request["messages"] == [TURN, {"role": "assistant", "content": [text("ho")]}]


def test_adjacent_messages_of_one_role_are_merged() -> None:
    assert turns(USER, USER, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}, USER) == [
        {"role": "user", "content": [text("hi"), text("hi")]},
        {"role": "assistant", "content": [text("a"), text("b")]},
        TURN,
    ]


def test_tool_calls_and_results_are_translated() -> None:
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Berlin"}'}},
        {"id": "call_2", "type": "function", "function": {"name": "clock", "arguments": ""}},
    ]
    made = turns(
        USER,
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_2", "content": [text("noon"), text("sharp")]},
        {"role": "user", "content": "and?"},
    )
    assert made == [
        TURN,
        {
            "role": "assistant",
            "content": [
                text("I look."),
                {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Berlin"}},
                {"type": "tool_use", "id": "call_2", "name": "clock", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": [text("sunny")]},
                {"type": "tool_result", "tool_use_id": "call_2", "content": [text("noon"), text("sharp")]},
                text("and?"),
            ],
        },
    ]


def test_empty_texts_are_left_out() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "clock", "arguments": "{}"}}]
    assert turns(
        USER,
        {"role": "assistant", "content": ""},
        {"role": "user", "content": [text("")]},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": ""},
    ) == [
        TURN,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "clock", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c"}]},
    ]


def test_thinking_is_sent_before_content() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    message = {"role": "assistant", "content": "ho", "reasoning_content": "hm", "thinking_blocks": [thinking]}
    assert turns(USER, message)[1]["content"] == [thinking, text("ho")]


def test_refusal_becomes_text() -> None:
    assert turns(USER, {"role": "assistant", "content": None, "refusal": "no"})[1]["content"] == [text("no")]
    part = {"type": "refusal", "refusal": "never"}
    assert turns(USER, {"role": "assistant", "content": [part]})[1]["content"] == [text("never")]


@pytest.mark.parametrize(
    ("url", "source"),
    [
        (PNG, {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}),
        ("data:image/JPEG;base64,/9j/", {"type": "base64", "media_type": "image/jpeg", "data": "/9j/"}),
        ("https://example.com/a.png", {"type": "url", "url": "https://example.com/a.png"}),
    ],
)
def test_images_are_translated(url: str, source: dict[str, str]) -> None:
    part = {"type": "image_url", "image_url": {"url": url, "detail": "low"}, "cache_control": {"type": "ephemeral"}}
    assert turns({"role": "user", "content": [text("see"), part]}) == [
        {
            "role": "user",
            "content": [text("see"), {"type": "image", "source": source, "cache_control": {"type": "ephemeral"}}],
        }
    ]


def test_pdf_becomes_document() -> None:
    part = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}}
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    assert turns({"role": "user", "content": [part]})[0]["content"] == [
        {"type": "document", "source": source, "title": "a.pdf"}
    ]


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        ("hi", "messages.0: must be an object"),
        ({"role": "function"}, "messages.0.role: must be system, developer, user, assistant or tool on this model"),
        ({"role": "user"}, "messages.0.content: must be text or a list of parts"),
        ({"role": "user", "content": [5]}, "messages.0.content.0: must be a part with a type"),
        ({"role": "system", "content": [{"type": "image_url"}]}, "messages.0.content.0: must be text on this model"),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
            "messages.0.content.0: parts like this of type 'input_audio' are not available on this model",
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]},
            "messages.0.content.0: parts like this of type 'file' are not available on this model",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://example.com/a.png"}}]},
            "messages.0.content.0: must be an https:// URL, or a base64 data: URL of a JPEG, PNG, GIF or WebP image",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA=="}}]},
            "messages.0.content.0: must be an https:// URL, or a base64 data: URL of a JPEG, PNG, GIF or WebP image",
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:text/csv;base64,YQ=="}}]},
            "messages.0.content.0: must be a base64 data: URL of a PDF on this model",
        ),
        ({"role": "tool", "content": "x"}, "messages.0.tool_call_id: is required"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages.0.audio: is not available on this model"),
        (
            {"role": "assistant", "function_call": {"name": "f"}},
            "messages.0.function_call: is not available on this model; use tool_calls",
        ),
        ({"role": "assistant", "tool_calls": {}}, None),
        ({"role": "assistant", "tool_calls": 5}, "messages.0.tool_calls: must be a list"),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]},
            "messages.0.tool_calls.0: must be a function call with an id and a name on this model",
        ),
        *(
            (
                {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": odd}}]},
                "messages.0.tool_calls.0.function.arguments: must be a JSON object as text on this model",
            )
            for odd in ("{", "[]", "5", 5, {"a": 1})
        ),
    ],
)
def test_untranslatable_message_is_refused(message: Any, detail: str | None) -> None:
    if detail is None:
        assert translated(messages=[message, USER])["messages"] == [TURN]
    else:
        assert refused(messages=[message]) == detail


@pytest.mark.parametrize("messages", [None, [], "hi", {}, 5])
def test_missing_messages_are_refused(messages: Any) -> None:
    assert refused(messages=messages) == "messages: must be a list with at least one message"


def test_only_system_messages_are_refused() -> None:
    detail = refused(messages=[{"role": "system", "content": "be good"}])
    assert detail == "messages: must have a message with another role than system on this model"
