"""A Responses request as a chat completion's: translated, left out without an effect, or refused by name."""

from typing import Any

import pytest

from platform_app.llm.errors import UnsupportedByProvider
from platform_app.llm.translation.carried import carry_thinking
from platform_app.llm.translation.responses.request import chat_of_responses

THINKING = [{"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}]
FUNCTION = {"type": "function", "name": "read_file", "parameters": {"type": "object"}, "strict": True}


def _messages(*items: dict[str, Any]) -> Any:
    return chat_of_responses({"input": list(items)})["messages"]


def test_text_input_follows_instructions() -> None:
    assert chat_of_responses({"instructions": "Be brief.", "input": "Hi."}) == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]
    }


def test_turn_of_model_becomes_one_message() -> None:
    """Reasoning, text and adjacent calls are one assistant message; each output is a tool message."""
    messages = _messages(
        {"role": "developer", "content": [{"type": "input_text", "text": "Rules."}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": carry_thinking(THINKING)},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "c1", "name": "read_file", "arguments": "{}", "id": "fc_1"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "*** Begin"},
        {"type": "function_call_output", "call_id": "c1", "output": "text"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "done"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    )

    assert messages == [
        {"role": "system", "content": "Rules."},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "read_file", "arguments": "{}"}},
                {"id": "c2", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}},
            ],
            "thinking_blocks": THINKING,
        },
        {"role": "tool", "tool_call_id": "c1", "content": "text"},
        {"role": "tool", "tool_call_id": "c2", "content": "done"},
        {"role": "assistant", "content": None, "refusal": "No."},
    ]


def test_reasoning_of_another_provider_is_left_out() -> None:
    foreign = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}

    assert _messages({"role": "user", "content": "Hi."}, foreign, {"role": "assistant", "content": "Hello."}) == [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello."},
    ]


def test_reasoning_text_returns_in_its_field() -> None:
    """DeepSeek and Kimi refuse a tool's result without the reasoning before its call."""
    carried = carry_thinking([{"type": "reasoning_content", "reasoning_content": "Hm."}])
    [message] = _messages(
        {"type": "reasoning", "summary": [], "encrypted_content": carried},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
    )

    assert message["reasoning_content"] == "Hm."
    assert "thinking_blocks" not in message


def test_parts_of_user_message_are_translated() -> None:
    [message] = _messages(
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look."},
                {"type": "input_image", "image_url": "https://x.test/a.png", "detail": "low"},
                {"type": "input_file", "file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"},
            ],
        }
    )

    assert message["content"] == [
        {"type": "text", "text": "Look."},
        {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
    ]


def test_fields_get_the_names_of_chat_completions() -> None:
    schema = {"type": "json_schema", "name": "person", "schema": {"type": "object"}, "strict": True}
    request = chat_of_responses(
        {
            "input": "Hi.", "max_output_tokens": 9, "temperature": 0.5, "top_logprobs": 2, "store": False,
            "text": {"format": schema, "verbosity": "low"}, "reasoning": {"effort": "high", "summary": "auto"},
            "include": ["reasoning.encrypted_content"], "metadata": {"a": "b"}, "truncation": "disabled",
            "tools": [FUNCTION], "tool_choice": {"type": "function", "name": "read_file"},
            "parallel_tool_calls": False, "top_k": 4, "user": None,
        }
    )  # fmt: skip
    del request["messages"]

    assert request == {
        "max_completion_tokens": 9, "temperature": 0.5, "top_logprobs": 2, "logprobs": True, "verbosity": "low",
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "person", "schema": {"type": "object"}, "strict": True},
        },
        "reasoning_effort": "high", "parallel_tool_calls": False, "top_k": 4,
        "tools": [
            {
                "type": "function",
                "function": {"name": "read_file", "parameters": {"type": "object"}, "strict": True},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "read_file"}},
    }  # fmt: skip


def test_allowed_tools_leave_the_others_out() -> None:
    other = {**FUNCTION, "name": "delete_file"}
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "read_file"}]}

    request = chat_of_responses({"input": "Hi.", "tools": [FUNCTION, other], "tool_choice": choice})

    assert [tool["function"]["name"] for tool in request["tools"]] == ["read_file"]
    assert request["tool_choice"] == "required"


def test_tool_fields_without_tools_are_left_out() -> None:
    """OpenAI's chat completions refuse them, and Responses clients send them always."""
    body = {"input": "Hi.", "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}

    assert chat_of_responses(body).keys() == {"messages"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"include": ["new.value"]}, "include.0"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"tools": [{"type": "web_search"}]}, "tools.web_search"),
        ({"tools": [{"type": "local_shell"}]}, "tools.local_shell"),
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
        ({"tools": [{**FUNCTION, "defer_loading": True}]}, "tools.0.defer_loading"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"input": [{"id": "msg_1"}]}, "input.0"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input.0"),
        ({"input": [{"role": "owner", "content": "Hi."}]}, "input.0.role"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input.0.content.0.file_id",
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_video"}]}]}, "input.0.content.0"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0.call_id"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "input.0.arguments"),
    ],
)
def test_inexpressible_field_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedByProvider) as caught:
        chat_of_responses({"input": "Hi.", **body})
    assert caught.value.param == param
