"""Requests with a canary in every place where a client puts texts, in each client format."""

from collections.abc import Mapping
from typing import Any

from platform_app.llm.translation.carried import carry_reasoning, carry_thinking

PROMPT = "canary-prompt-7d1f0c"
NAMED = "canary-name-41ab"
"""A type, field or id, which an error may repeat to the client; it is logged and stored as little as PROMPT."""
CARRIED = ("fbt1.", "fbr1.")
"""How a field begins that carries the reasoning of another format: base64 hides the canary in it."""
MESSAGES = [{"role": "user", "content": PROMPT}]

_SCHEMA = {"type": "object", "description": PROMPT, "properties": {"a": {"type": "string", "description": PROMPT}}}
_THINKING = [
    {"type": "thinking", "thinking": PROMPT, "signature": PROMPT},
    {"type": "redacted_thinking", "data": PROMPT},
]
_REASONING = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": PROMPT}],
    "encrypted_content": f"sealed:{PROMPT}",
}
_ARGUMENTS = f'{{"a": "{PROMPT}"}}'
_TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": PROMPT},
    {"role": "user", "content": [{"type": "text", "text": PROMPT}]},
    {
        "role": "assistant",
        "content": PROMPT,
        "reasoning_content": PROMPT,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": _ARGUMENTS}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": PROMPT},
    {"role": "user", "content": PROMPT},
]

_CHAT: dict[str, Any] = {
    "messages": _TURNS,
    "tools": [{"type": "function", "function": {"name": "f", "description": PROMPT, "parameters": _SCHEMA}}],
    "user": PROMPT,
    "safety_identifier": PROMPT,
    "prompt_cache_key": PROMPT,
    "metadata": {"note": PROMPT},
    "reasoning_effort": "low",
}
_RESPONSES: dict[str, Any] = {
    "instructions": PROMPT,
    "input": [
        {"role": "developer", "content": PROMPT},
        {"role": "user", "content": [{"type": "input_text", "text": PROMPT}]},
        _REASONING,
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": _ARGUMENTS},
        {"type": "function_call_output", "call_id": "c1", "output": PROMPT},
        {"role": "user", "content": PROMPT},
    ],
    "tools": [{"type": "function", "name": "f", "description": PROMPT, "parameters": _SCHEMA}],
    "user": PROMPT,
    "safety_identifier": PROMPT,
    "prompt_cache_key": PROMPT,
    "metadata": {"note": PROMPT},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
}
_CONVERSATION: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": PROMPT, "cache_control": {"type": "ephemeral"}}]},
    {
        "role": "assistant",
        "content": [*_THINKING, {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": PROMPT}}],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": PROMPT}]},
            {"type": "text", "text": PROMPT},
        ],
    },
]
_MESSAGES: dict[str, Any] = {
    "system": [{"type": "text", "text": PROMPT, "cache_control": {"type": "ephemeral"}}],
    "messages": _CONVERSATION,
    "max_tokens": 2048,
    "tools": [{"name": "f", "description": PROMPT, "input_schema": _SCHEMA}],
    "metadata": {"user_id": PROMPT},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
}

WIDE: Mapping[str, Mapping[str, Any]] = {"chat": _CHAT, "responses": _RESPONSES, "messages": _MESSAGES}
"""By the route's name: a request whose texts all contain the canary."""


def _with_carried(name: str) -> dict[str, Any]:
    """Return the request with the reasoning of another format, as a client sends it back."""
    body = dict(WIDE[name])
    match name:
        case "responses":
            item = {**_REASONING, "encrypted_content": carry_thinking(_THINKING)}
            body["input"] = [item if each is _REASONING else each for each in body["input"]]
        case "messages":
            block = {"type": "thinking", "thinking": PROMPT, "signature": carry_reasoning(_REASONING)}
            assistant = {"role": "assistant", "content": [block, *_CONVERSATION[1]["content"][-1:]]}
            body["messages"] = [_CONVERSATION[0], assistant, _CONVERSATION[2]]
        case _:
            assistant = {**_TURNS[2], "thinking_blocks": _THINKING, "reasoning_items": [_REASONING]}
            body["messages"] = [*_TURNS[:2], assistant, *_TURNS[3:]]
    return body


CARRYING: Mapping[str, Mapping[str, Any]] = {name: _with_carried(name) for name in WIDE}
"""By the route's name: the same with the reasoning of another format."""

_DEEP = b'{"model": "sim-ok", "%b": ["%b", %b%b]}'
_UNFIT_ITEMS: Mapping[str, list[Any]] = {
    "an odd type": [{"type": NAMED}],
    "an odd role": [{"role": NAMED, "content": PROMPT}],
    "an odd part": [{"role": "user", "content": [{"type": NAMED, NAMED: PROMPT}]}],
    "an odd image": [{"role": "user", "content": [{"type": "input_image", "image_url": PROMPT}]}],
    "an odd source": [{"role": "user", "content": [{"type": "image", "source": {"type": NAMED, "data": PROMPT}}]}],
    "a surrogate": [{"role": "user", "content": PROMPT + "\ud800"}],
    "a stray result": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": NAMED, "content": PROMPT}]}],
    "a stray output": [{"type": "function_call_output", "call_id": NAMED, "output": PROMPT}],
    "odd arguments": [{"type": "function_call", "call_id": NAMED, "name": "f", "arguments": PROMPT}],
    "a reference": [{"type": "item_reference", "id": PROMPT}],
}
_UNFIT_FIELDS: Mapping[str, Any] = {
    "tools": [{"type": NAMED, "name": "f"}],
    "tool_choice": {"type": NAMED, "name": PROMPT},
    "previous_response_id": PROMPT,
    "truncation": PROMPT,
    "text": {"format": {"type": NAMED}},
    "reasoning": {"effort": PROMPT},
    "thinking": {"type": NAMED},
    "service_tier": PROMPT,
    "store": PROMPT,
    "stream": PROMPT,
    "include": [PROMPT],
    "conversation": PROMPT,
    "prompt": {"id": PROMPT},
    "temperature": PROMPT,
    "max_tokens": PROMPT,
    "max_output_tokens": PROMPT,
    "stop_sequences": PROMPT,
    "metadata": PROMPT,
    "system": {"a": PROMPT},
    "instructions": [PROMPT],
    "container": PROMPT,
    "mcp_servers": [{"url": PROMPT}],
    "of_tomorrow": PROMPT,
}


def unfit_bodies(name: str) -> dict[str, bytes | dict[str, Any]]:
    """Return requests that have no meaning, by what is wrong; for the routes of the Responses and Messages formats."""
    field, rest = ("input", {}) if name == "responses" else ("messages", {"max_tokens": 64})
    return {
        "not JSON": f"{{{PROMPT}".encode(),
        "a list": b'["%b"]' % PROMPT.encode(),
        "deep": _DEEP % (field.encode(), PROMPT.encode(), b"[" * 400, b"]" * 400),
        "a number": {field: 5, "note": PROMPT},
        **{what: {**rest, field: items} for what, items in _UNFIT_ITEMS.items()},
        **{what: {**rest, field: MESSAGES, what: value} for what, value in _UNFIT_FIELDS.items()},
    }
