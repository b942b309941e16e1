"""What a client can ask for, written in each client format."""

from collections.abc import Mapping
from typing import Any

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQKJcOkw7zDtsOfCg=="
IMAGE_URL = "https://images.example.com/cat.png"
SCHEMA = {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False,
}  # fmt: skip

LONG_NAME = "mcp__issue_tracker_of_the_whole_company__search_issues_by_label_and_milestone"
"""More than OpenAI's 64 characters, and fewer than Anthropic's 128."""

Fields = Mapping[str, Any]


def _chat_user(*parts: Fields) -> Fields:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look."}, *parts]}]}


def _chat_tool(name: str) -> Fields:
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA}}


_CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
_CHAT_TOOLS = {"tools": [_chat_tool("weather")]}
CHAT: Mapping[str, Fields] = {
    "System instructions": {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    },
    "Temperature": {"temperature": 0.5},
    "Top p": {"top_p": 0.5},
    "Images by URL": _chat_user({"type": "image_url", "image_url": {"url": IMAGE_URL}}),
    "Images inline": _chat_user({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}),
    "Files inline": _chat_user(
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}}
    ),
    "Files by id": _chat_user({"type": "file", "file": {"file_id": "file-123"}}),
    "Audio": _chat_user({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}),
    "Tools": _CHAT_TOOLS,
    "Tool results": {
        **_CHAT_TOOLS,
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"},
        ],
    },
    "One call at a time": {**_CHAT_TOOLS, "parallel_tool_calls": False},
    "Tool choice: any": {**_CHAT_TOOLS, "tool_choice": "required"},
    "Tool choice: one tool": {**_CHAT_TOOLS, "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    "Custom tools": {"tools": [{"type": "custom", "custom": {"name": "sql"}}]},
    "Structured output": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
    },
    "JSON mode": {"response_format": {"type": "json_object"}},
    "Reasoning effort": {"reasoning_effort": "high"},
    "Cache control": _chat_user({"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral"}}),
    "Stop sequences": {"stop": ["END"]},
    "Log probabilities": {"logprobs": True, "top_logprobs": 2},
    "Several choices": {"n": 2},
    "Seed": {"seed": 7},
    "Penalties": {"frequency_penalty": 0.5},
    "Metadata": {"metadata": {"project": "a"}},
    "End user": {"user": "user-7"},
    "Prompt cache key": {"prompt_cache_key": "session-7"},
    "Service tier": {"service_tier": "priority"},
    "Stored responses": {"store": True},
    "Hosted tools": {"web_search_options": {}},
    "Hosted tools, allowed": {"web_search_options": {}},
    "Long tool names": {"tools": [_chat_tool(LONG_NAME)]},
}


def _item(*parts: Fields) -> Fields:
    return {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Look."}, *parts]}]}


def _function(name: str) -> Fields:
    return {"type": "function", "name": name, "parameters": SCHEMA, "strict": False}


_TOOLS = {"tools": [_function("weather")]}
RESPONSES: Mapping[str, Fields] = {
    "System instructions": {"instructions": "Be brief."},
    "Temperature": {"temperature": 0.5},
    "Top p": {"top_p": 0.5},
    "Images by URL": _item({"type": "input_image", "image_url": IMAGE_URL, "detail": "auto"}),
    "Images inline": _item({"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}),
    "Files by URL": _item({"type": "input_file", "file_url": "https://files.example.com/a.pdf"}),
    "Files inline": _item(
        {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}
    ),
    "Files by id": _item({"type": "input_file", "file_id": "file-123"}),
    "Tools": _TOOLS,
    "Tool results": {
        **_TOOLS,
        "input": [
            {"role": "user", "content": "Weather?"},
            {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Rome"}'},
            {"type": "function_call_output", "call_id": "call_1", "output": "Sunny"},
        ],
    },
    "One call at a time": {**_TOOLS, "parallel_tool_calls": False},
    "Tool choice: any": {**_TOOLS, "tool_choice": "required"},
    "Tool choice: one tool": {**_TOOLS, "tool_choice": {"type": "function", "name": "weather"}},
    "Custom tools": {"tools": [{"type": "custom", "name": "sql"}]},
    "Structured output": {
        "text": {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}}
    },
    "JSON mode": {"text": {"format": {"type": "json_object"}}},
    "Reasoning effort": {"reasoning": {"effort": "high"}},
    "Reasoning summaries": {"reasoning": {"effort": "high", "summary": "auto"}},
    "Reasoning of the native provider, sent back": {
        "input": [
            {"role": "user", "content": "Think."},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
            {"role": "user", "content": "And?"},
        ]
    },
    "Verbosity": {"text": {"verbosity": "low"}},
    "Log probabilities": {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
    "Truncation": {"truncation": "auto"},
    "Metadata": {"metadata": {"project": "a"}},
    "End user": {"user": "user-7"},
    "Prompt cache key": {"prompt_cache_key": "session-7"},
    "Service tier": {"service_tier": "priority"},
    "Stored responses": {"store": True},
    "Stored responses, where the provider stores them": {"store": True},
    "Background": {"background": True},
    "Stored prompts": {"prompt": {"id": "pmpt_1"}},
    "Hosted tools": {"tools": [{"type": "web_search"}]},
    "Hosted tools, allowed": {"tools": [{"type": "web_search"}]},
    "Long tool names": {"tools": [_function(LONG_NAME)]},
}


def _turn(*blocks: Fields) -> Fields:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look."}, *blocks]}]}


_INPUT_TOOLS = {"tools": [{"name": "weather", "input_schema": SCHEMA}]}
MESSAGES: Mapping[str, Fields] = {
    "System instructions": {"system": "Be brief."},
    "Temperature": {"temperature": 0.5},
    "Top p": {"top_p": 0.5},
    "Top k": {"top_k": 5},
    "Top k, allowed": {"top_k": 5},
    "Images by URL": _turn({"type": "image", "source": {"type": "url", "url": IMAGE_URL}}),
    "Images inline": _turn({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}),
    "Files by URL": _turn({"type": "document", "source": {"type": "url", "url": "https://files.example.com/a.pdf"}}),
    "Files inline": _turn(
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}
    ),
    "Files by id": _turn({"type": "document", "source": {"type": "file", "file_id": "file-123"}}),
    "Citations": _turn(
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "A fact."},
            "citations": {"enabled": True},
        }
    ),
    "Tools": _INPUT_TOOLS,
    "Tool results": {
        **_INPUT_TOOLS,
        "messages": [
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny"}]},
        ],
    },
    "One call at a time": {**_INPUT_TOOLS, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    "Tool choice: any": {**_INPUT_TOOLS, "tool_choice": {"type": "any"}},
    "Tool choice: one tool": {**_INPUT_TOOLS, "tool_choice": {"type": "tool", "name": "weather"}},
    "Structured output": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    "Thinking with a budget": {"thinking": {"type": "enabled", "budget_tokens": 2048}},
    "Reasoning effort": {"output_config": {"effort": "high"}},
    "Reasoning of the native provider, sent back": {
        "messages": [
            {"role": "user", "content": "Think."},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                    {"type": "text", "text": "Done."},
                ],
            },
            {"role": "user", "content": "And?"},
        ]
    },
    "Cache control": _turn({"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral"}}),
    "Stop sequences": {"stop_sequences": ["END"]},
    "Metadata": {"metadata": {"user_id": "user-7"}},
    "Service tier": {"service_tier": "auto"},
    "Hosted tools": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    "Hosted tools, allowed": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    "Long tool names": {"tools": [{"name": LONG_NAME, "input_schema": SCHEMA}]},
    "Tools of the client (bash)": {"tools": [{"type": "bash_20250124", "name": "bash"}]},
}
OPTIONS: Mapping[str, Fields] = {
    "Hosted tools, allowed": {"allow_fields": ["web_search_options", "tools.web_search", "tools.web_search_20250305"]},
    "Top k, allowed": {"allow_fields": ["top_k"]},
    "Stored responses, where the provider stores them": {"stores_responses": True},
}
"""What the config file says of the provider, for features that the operator turns on."""
FEATURES: Mapping[str, Mapping[str, Fields]] = {"chat": CHAT, "responses": RESPONSES, "messages": MESSAGES}
BASES: Mapping[str, Mapping[str, Fields]] = {
    "chat": {
        "Tool results": _CHAT_TOOLS, "One call at a time": _CHAT_TOOLS, "Tool choice: any": _CHAT_TOOLS,
        "Tool choice: one tool": _CHAT_TOOLS, "Cache control": _chat_user({"type": "text", "text": "Long."}),
    },
    "responses": {
        "Tool results": _TOOLS, "One call at a time": _TOOLS, "Tool choice: any": _TOOLS,
        "Tool choice: one tool": _TOOLS, "Reasoning summaries": {"reasoning": {"effort": "high"}},
        "Reasoning of the native provider, sent back": {
            "input": [{"role": "user", "content": "Think."}, {"role": "user", "content": "And?"}]
        },
    },
    "messages": {
        "Tool results": _INPUT_TOOLS, "One call at a time": {**_INPUT_TOOLS, "tool_choice": {"type": "auto"}},
        "Tool choice: any": _INPUT_TOOLS, "Tool choice: one tool": _INPUT_TOOLS,
        "Citations": _turn(
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A fact."}}
        ),
        "Cache control": _turn({"type": "text", "text": "Long."}),
        "Reasoning of the native provider, sent back": {
            "messages": [
                {"role": "user", "content": "Think."},
                {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
                {"role": "user", "content": "And?"},
            ]
        },
    },
}  # fmt: skip
"""The same request without the feature, if that is not the plain one. What differs in the provider's request is the
feature."""
