"""Translate Anthropic's message to OpenAI's chat completion.

In addition to OpenAI's fields a message has `reasoning_content`, the text of the model's thinking, and
`thinking_blocks`, the same with Anthropic's signatures. A client that sends a tool's result sends them back.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from platform_app.errors import ContentFiltered
from platform_app.llm import errors
from platform_app.llm.codecs import lenient_json
from platform_app.llm.codecs.exact_json import may_lose_digits, parse_exactly, written_exactly
from platform_app.llm.providers.anthropic import errors as anthropic_errors
from platform_app.llm.providers.error_body import is_error_body, is_error_list
from platform_app.llm.providers.json_reading import parse_response
from platform_app.llm.responses import ModelResponse
from platform_app.llm.usage.counts import TokenUsage, parse_usage, whole_count

FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def read_message(raw: bytes) -> ModelResponse:
    """Return the chat completion of a whole response. Raises ProviderFailed if it is not a message."""
    message = parse_response(raw)
    if is_error_list(message):
        raise anthropic_errors.error_from_event(message)
    if not isinstance(message, dict):
        raise errors.bad_response("the response is not an object")
    if message.get("type") != "message" or not isinstance(message.get("content"), list):
        if is_error_body(message):
            raise anthropic_errors.error_from_event(message)
        if finish_reason(message.get("stop_reason")) == "content_filter":
            raise errors.make_error(
                ContentFiltered, refusal_of(message) or "the provider returned no content (refusal)"
            )
        raise errors.bad_response("the response is not a message")
    choice = {
        "index": 0,
        "message": _message(message, exact_blocks(raw, message)),
        "logprobs": None,
        "finish_reason": finish_reason(message.get("stop_reason")),
    }
    body = {**envelope(message, "chat.completion"), "choices": [choice]}
    counted = message.get("usage")
    if not isinstance(counted, dict):
        return ModelResponse(lenient_json.dumps(body), body)
    body["usage"] = usage_of(counted)
    return ModelResponse(lenient_json.dumps(body), body, counted)


def envelope(message: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the first fields of OpenAI's responses and chunks."""
    message_id, model = message.get("id"), message.get("model")
    return {
        "id": message_id if isinstance(message_id, str) and message_id else f"msg_{uuid4().hex[:24]}",
        "object": kind,
        "created": int(time.time()),
        "model": model if isinstance(model, str) else "",
    }


def finish_reason(stop_reason: object) -> str:
    """Return OpenAI's finish_reason; `stop` for an unknown stop_reason."""
    return FINISH_REASONS.get(str(stop_reason), "stop")


def refusal_of(holder: Mapping[str, Any]) -> str | None:
    """Return the explanation of a refusal in a message or its last delta, if there is one."""
    details = holder.get("stop_details")
    explanation = details.get("explanation") if isinstance(details, dict) else None
    return explanation if isinstance(explanation, str) and holder.get("stop_reason") == "refusal" else None


def usage_of(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return OpenAI's usage. Anthropic counts tokens read from or written to its cache separately from other input."""
    counts = parse_usage(usage) or TokenUsage()
    details: dict[str, Any] = {
        "cached_tokens": counts.cached_tokens,
        "cache_creation_tokens": counts.cache_write_tokens,
    }
    by_lifetime = usage.get("cache_creation")
    if isinstance(by_lifetime, dict):
        details["cache_creation_token_details"] = {
            name: whole_count(by_lifetime.get(name))
            for name in ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
        }
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
        "prompt_tokens_details": details,
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
    }


def arguments_of(block: Mapping[str, Any], exact: Mapping[str, Any] | None) -> str:
    """Return the arguments of a call as text. `exact` is the block with its numbers as they were written, if that
    matters.

    Raises:
        ProviderBadResponse: the arguments are nested too deeply.
    """
    if exact is not None and (written := written_exactly(exact.get("input") or {})) is not None:
        return written
    try:
        return lenient_json.dumps(block.get("input") or {}).decode()
    except ValueError:
        raise errors.unusable_output("the arguments of a call are nested too deeply") from None


def exact_blocks(raw: bytes, message: Mapping[str, Any]) -> Sequence[Any] | None:
    """Return the content with its numbers as they were written, if the arguments of a call may need that."""
    calls = any(isinstance(block, dict) and block.get("type") == "tool_use" for block in message["content"])
    if not calls or not may_lose_digits(raw):
        return None
    exact = parse_exactly(raw)
    return None if exact is None else exact["content"]  # of the same length as the parsed content


def is_signed(block: Mapping[str, Any]) -> bool:
    """Return whether a client can send a block of thinking back. Servers that only resemble Anthropic's do not sign,
    and every server that checks signatures would refuse it."""
    return bool(block.get("data") if block.get("type") == "redacted_thinking" else block.get("signature"))


def call_of(block: Mapping[str, Any], arguments: str) -> dict[str, Any]:
    """Return the tool call of a block, with an id if the server sent none."""
    name, call_id = block.get("name"), block.get("id")
    function = {"name": name if isinstance(name, str) else "", "arguments": arguments}
    made = call_id if isinstance(call_id, str) and call_id else f"toolu_{uuid4().hex[:24]}"
    return {"id": made, "type": "function", "function": function}


def _message(message: Mapping[str, Any], exact: Sequence[Any] | None) -> dict[str, Any]:
    blocks = [block for block in message["content"] if isinstance(block, dict)]
    texts = [block["text"] for block in blocks if block.get("type") == "text" and isinstance(block.get("text"), str)]
    calls = [
        call_of(block, arguments_of(block, None if exact is None else exact[index]))
        for index, block in enumerate(message["content"])
        if isinstance(block, dict) and block.get("type") == "tool_use"
    ]
    made: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
        "refusal": refusal_of(message),
    }
    if calls:
        made["tool_calls"] = calls
    if thinking := [block for block in blocks if block.get("type") in ("thinking", "redacted_thinking")]:
        made["reasoning_content"] = _thinking_text(thinking)
        if signed := [block for block in thinking if is_signed(block)]:
            made["thinking_blocks"] = signed
    return made


def _thinking_text(blocks: Iterable[Mapping[str, Any]]) -> str:
    return "".join(block["thinking"] for block in blocks if isinstance(block.get("thinking"), str))
