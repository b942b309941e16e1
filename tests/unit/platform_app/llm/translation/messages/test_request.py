"""A Messages request as a chat completion's."""

from typing import Any

import pytest

from platform_app.llm.errors import UnsupportedByProvider
from platform_app.llm.formats import ApiFormat
from platform_app.llm.providers.openai.chat_fields import chat_fields
from platform_app.llm.requests import UpstreamCall
from platform_app.llm.translation.carried import carry_reasoning
from platform_app.llm.translation.messages.request import chat_of_messages

HELLO = {"role": "user", "content": "hello"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
CALL = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
EPHEMERAL = {"type": "ephemeral"}


def chat(*messages: Any, **fields: Any) -> dict[str, Any]:
    return chat_of_messages({"max_tokens": 9, "messages": list(messages) or [HELLO], **fields})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"stop_sequences": ["a"]}, {"stop": ["a"]}),
        ({"stop_sequences": []}, {}),
        ({"temperature": 0.5, "top_p": 0.1, "top_k": 4}, {"temperature": 0.5, "top_p": 0.1, "top_k": 4}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"reasoning_effort": "low"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, {"reasoning_effort": "medium"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 31999}}, {"reasoning_effort": "high"}),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({"thinking": {"type": "disabled"}}, {}),
        ({"output_config": {"effort": "max"}}, {"reasoning_effort": "xhigh"}),
        ({"service_tier": "standard_only"}, {"service_tier": "default"}),
        ({"metadata": {"user_id": "x" * 4000}}, {}),
        ({"context_management": {"edits": []}, "cache_control": EPHEMERAL, "tools": []}, {}),
        ({"tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"}},
         {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
          "tool_choice": "required"}),
    ],
)  # fmt: skip
def test_field_becomes_chat_field(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    made = chat(**fields)
    assert made == {"messages": [HELLO], "max_completion_tokens": 9, **expected}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"new_field": 1}, "new_field"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools.0.type"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"output_config": {"new": 1}}, "output_config.new"),
        ({"messages": [{"role": "user", "content": [{"type": "container_upload"}]}]}, "messages.0.content.0"),
        ({"messages": [HELLO, {"role": "assistant", "content": "Once"}]}, "messages.1"),
        ({"messages": [{"role": "user", "content": [
            {"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}}]}]},
         "messages.0.content.0.source"),
    ],
)  # fmt: skip
def test_field_without_counterpart_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedByProvider) as caught:
        chat(**fields)
    assert caught.value.param == param


def test_tool_results_come_before_other_content() -> None:
    """Images of a result move to the user's message, and the failure of a tool is in its text."""
    result = {"type": "tool_result", "tool_use_id": "t1", "is_error": True, "content": [
        {"type": "text", "text": "no"}, IMAGE]}  # fmt: skip
    turn = {"role": "user", "content": [{"type": "text", "text": "see"}, result]}
    made = chat(HELLO, {"role": "assistant", "content": [CALL]}, turn)["messages"]
    assert [message["role"] for message in made] == ["user", "assistant", "tool", "user"]
    assert made[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert made[2]["content"][0]["text"] == "Error: no"
    assert [part["type"] for part in made[3]["content"]] == ["text", "image_url", "text"]


def test_own_reasoning_returns_and_foreign_thinking_does_not() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}
    blocks = [
        {"type": "thinking", "thinking": "a", "signature": carry_reasoning(item)},
        {"type": "thinking", "thinking": "b", "signature": "EqQBCg=="},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "c"},
    ]
    made = chat(HELLO, {"role": "assistant", "content": blocks}, HELLO)["messages"][1]
    assert made == {"role": "assistant", "content": "c", "reasoning_items": [item]}


def test_billing_line_of_claude_code_is_left_out() -> None:
    system = [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2;"}, {"type": "text", "text": "Be."}]
    assert chat(system=system)["messages"][0] == {"role": "system", "content": "Be."}


def test_openai_server_gets_no_members_of_other_formats() -> None:
    """OpenAI refuses unknown members of messages, parts and tools."""
    body = {
        "max_tokens": 9,
        "system": [{"type": "text", "text": "Be.", "cache_control": EPHEMERAL}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hello", "cache_control": EPHEMERAL}]},
            {"role": "assistant", "content": [{**CALL, "cache_control": EPHEMERAL}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "x",
                                          "cache_control": EPHEMERAL}]},
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": EPHEMERAL}],
    }  # fmt: skip
    call = UpstreamCall("m", body, 9.0, format=ApiFormat.MESSAGES)
    assert "cache_control" in repr(call.chat_body())
    sent = chat_fields(call)
    assert "cache_control" not in repr(sent)
    assert sent["messages"][1] == HELLO
