"""Rich requests of each client format, and seeded variations of them with values of unexpected types."""

import copy
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from platform_app.llm.translation.carried import carry_reasoning, carry_thinking

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Format:
    """A client format: its path, its headers, and rich requests in it."""

    path: str
    bodies: tuple[dict[str, Any], ...]
    headers: Mapping[str, str] = field(default_factory=dict)


_THINKING = carry_thinking([{"type": "thinking", "thinking": "t", "signature": "s"}])
_REASONING = carry_reasoning({"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "e"})
_SCHEMA = {
    "type": "object", "required": ["a"], "additionalProperties": False, "allOf": [{"$ref": "#/$defs/b"}],
    "properties": {"a": {"type": "string", "format": "date", "enum": ["x"], "anyOf": [{"type": "null"}]}},
    "$defs": {"b": {"type": "object", "minItems": 1}},
}  # fmt: skip
_MARK = {"type": "ephemeral"}
_CHAT = {
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "s", "cache_control": _MARK}]},
        {"role": "user", "name": "n", "content": [
            {"type": "text", "text": "x"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi", "filename": "a"}},
        ]},
        {"role": "assistant", "content": "c", "refusal": "r",
         "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": _REASONING}],
         "reasoning_items": [{"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "e"}],
         "tool_calls": [
             {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1.5}'}},
             {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "i"}},
         ]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "r"}]},
        {"role": "tool", "tool_call_id": "c2", "content": "r"},
    ],
    "tools": [
        {"type": "function", "cache_control": _MARK,
         "function": {"name": "f", "description": "d", "parameters": _SCHEMA, "strict": True}},
        {"type": "custom", "custom": {"name": "g", "description": "d", "format": {
            "type": "grammar", "grammar": {"definition": "x", "syntax": "lark"}}}},
    ],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": _SCHEMA, "strict": True}},
    "max_completion_tokens": 6, "temperature": 0.5, "stop": ["a"], "reasoning_effort": "high", "metadata": {"a": "b"},
    "parallel_tool_calls": False, "service_tier": "auto", "logit_bias": {}, "modalities": ["text"],
}  # fmt: skip
_CHOSEN = {
    "messages": [{"role": "user", "content": "x"}],
    "tools": _CHAT["tools"],
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
    },
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "reasoning": {"effort": "high", "summary": "auto"},
}
_RESPONSES = {
    "instructions": [{"role": "system", "content": [{"type": "input_text", "text": "i"}]}],
    "input": [
        {"role": "user", "content": [
            {"type": "input_text", "text": "x", "cache_control": _MARK},
            {"type": "input_image", "image_url": "https://images.example.com/a.png", "detail": "low"},
            {"type": "input_file", "file_data": "d", "filename": "f"},
        ]},
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": _THINKING},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t", "annotations": []}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "namespace": "ns", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "i"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "o"}]},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "o"},
        {"type": "additional_tools", "tools": [{"type": "function", "name": "h", "parameters": {}}]},
    ],
    "tools": [
        {"type": "function", "name": "f", "description": "d", "parameters": _SCHEMA, "strict": True},
        {"type": "custom", "name": "g", "format": {"type": "grammar", "definition": "x", "syntax": "lark"}},
        {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "k", "parameters": {}}]},
    ],
    "tool_choice": "auto", "text": {"format": {"type": "json_schema", "name": "n", "schema": _SCHEMA}},
    "reasoning": {"effort": "high", "summary": "auto"}, "include": ["message.output_text.logprobs"],
    "max_output_tokens": 5, "metadata": {"a": "b"}, "store": False, "temperature": 1, "context_management": [],
}  # fmt: skip
_ALLOWED = {
    **_RESPONSES, "instructions": "i", "input": [{"role": "user", "content": "x"}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
}  # fmt: skip
_MESSAGES = {
    "max_tokens": 5000,
    "system": [{"type": "text", "text": "s", "cache_control": _MARK}],
    "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": "x"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "d"}},
            {"type": "document", "title": "t", "context": "c", "citations": {"enabled": False},
             "source": {"type": "content", "content": [{"type": "text", "text": "d"}]}},
        ]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "t", "signature": _REASONING},
            {"type": "text", "text": "x"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1.5}, "cache_control": _MARK},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "is_error": True, "cache_control": _MARK,
             "content": [{"type": "text", "text": "r"},
                         {"type": "image", "source": {"type": "url", "url": "https://images.example.com/a.png"}}]},
            {"type": "text", "text": "y"},
        ]},
        {"role": "system", "content": "s"},
        {"role": "user", "content": "z"},
    ],
    "tools": [{"type": "custom", "name": "f", "description": "d", "input_schema": _SCHEMA, "strict": True,
               "input_examples": [{"a": 1.5}], "defer_loading": False, "allowed_callers": ["direct"]}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": _SCHEMA}},
    "stop_sequences": ["a"], "metadata": {"user_id": "u"}, "service_tier": "auto", "speed": "standard",
}  # fmt: skip
_COUNTED = {name: _MESSAGES[name] for name in ("system", "messages", "tools", "tool_choice", "thinking")}
_VERSION = {"anthropic-version": "2023-06-01"}
FORMATS: Mapping[str, Format] = {
    "chat": Format("/v1/chat/completions", (_CHAT, _CHOSEN)),
    "responses": Format("/v1/responses", (_RESPONSES, _ALLOWED)),
    "messages": Format("/v1/messages", (_MESSAGES,), _VERSION),
    "count_tokens": Format("/v1/messages/count_tokens", (_COUNTED,), _VERSION),
}
_ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 5, 1.5, 2**64 - 1, 1e300, "", "x", "{", "a.b[0]", "data: ", "fbr1.", "fbt1.bnVsbA", [],
    {}, [None], [[]], [{}], [5], ["x"], {"type": None}, {"type": []}, {"type": "text"}, {"": None}, {"name": []},
    {"type": "function"}, {"type": "function", "name": "f", "function": 5},
    {"type": "custom", "name": "g", "custom": 5},
    {"type": "namespace", "name": "n"}, {"type": "namespace", "tools": [{"name": "x"}]}, {"type": "web_search"},
    {"id": "x"}, {"format": []}, json.loads("[" * 240 + "]" * 240),
)  # fmt: skip
_NAMES = ("zz", "function", "custom", "model", "messages[" + "1" * 4400 + "]", "a.b", "messages[0].content[1]")


def varied(bodies: tuple[dict[str, Any], ...], seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Yield variations of these bodies: up to three values are replaced, removed or added."""
    chance = random.Random(seed)
    for _ in range(count):
        body = copy.deepcopy(chance.choice(bodies))
        for _ in range(chance.choice((1, 1, 2, 3))):
            _change(body, chance)
        yield body


def _change(body: dict[str, Any], chance: random.Random) -> None:
    *around, last = chance.choice([path for path in _paths(body) if path])
    holder: Any = body
    for step in around:
        holder = holder[step]
    value = copy.deepcopy(chance.choice(_ODD))
    match chance.choice(("set", "set", "remove", "add")), holder[last]:
        case "remove", _:
            del holder[last]
        case "add", dict(inner):
            inner[chance.choice(_NAMES)] = value
        case "add", list(inner):
            inner.append(value)
        case _:
            holder[last] = value


def _paths(value: object, path: Path = ()) -> Iterator[Path]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, each in items:
        yield from _paths(each, (*path, step))
