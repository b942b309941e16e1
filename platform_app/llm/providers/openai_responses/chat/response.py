"""Translate a Responses object to a chat completion.

In addition to OpenAI's fields a message has `reasoning_content`, the summaries of the model's reasoning, and
`reasoning_items`, the same with the encrypted content. A client that sends a tool's result sends them back.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from platform_app.llm import errors
from platform_app.llm.codecs import lenient_json
from platform_app.llm.providers.json_reading import parse_response
from platform_app.llm.providers.openai_responses.fields import (
    finish_reason,
    items_of,
    parts_of,
    require_response,
    text_in,
)
from platform_app.llm.responses import ModelResponse
from platform_app.llm.usage.counts import TokenUsage, parse_usage

Fields = dict[str, Any]
BETWEEN_THOUGHTS = "\n\n"
"""Separates the parts of the reasoning in `reasoning_content`."""
_ENVELOPE = ("service_tier", "system_fingerprint")
_LATEST = 1 << 53
"""No server means a time that is later, in seconds since 1970, and clients read numbers up to here exactly."""


def read_as_chat(raw: bytes) -> ModelResponse:
    """Return the chat completion of a whole response. Raises ProviderFailed or RequestRefused if it failed, is not
    one, or has not ended."""
    body = parse_response(raw)
    response = require_response(body)
    if response.get("status") in ("in_progress", "queued"):
        raise errors.bad_response("the response is not complete")
    choice = {
        "index": 0,
        "message": message_of(response),
        "logprobs": logprobs_of(part for part in _texts_of(response)),
        "finish_reason": finish_reason(response),
    }
    made: Fields = {**envelope(response, "chat.completion"), "choices": [choice]}
    counted = response.get("usage")
    if not isinstance(counted, dict):
        return ModelResponse(lenient_json.dumps(made), made)
    made["usage"] = usage_of(counted)
    return ModelResponse(lenient_json.dumps(made), made, counted)


def envelope(response: Mapping[str, Any], kind: str) -> Fields:
    """Return the first fields of chat completions and chunks."""
    created = response.get("created_at")
    return {
        "id": text_in(response, "id") or f"resp_{uuid4().hex}",
        "object": kind,
        "created": int(created) if isinstance(created, int | float) and 0 <= created < _LATEST else 0,
        "model": text_in(response, "model"),
        **{name: response[name] for name in _ENVELOPE if response.get(name) is not None},
    }


def usage_of(usage: Mapping[str, Any]) -> Fields:
    """Return a chat's usage."""
    counts = parse_usage(usage) or TokenUsage()
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.total_tokens or counts.prompt_tokens + counts.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": counts.cached_tokens,
            "cache_creation_tokens": counts.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
    }


def message_of(response: Mapping[str, Any]) -> Fields:
    """Return the assistant's message with the content of all items."""
    text = "".join(text_in(part, "text") for part in _texts_of(response))
    refusals = [
        text_in(part, "refusal") for item in items_of(response) for part in parts_of(item, "content", "refusal")
    ]
    calls = [call for item in items_of(response) if (call := call_of(item)) is not None]
    made: Fields = {
        "role": "assistant",
        "content": text if text or not (calls or refusals) else None,
        "refusal": "".join(refusals) or None,
    }
    if annotations := list(annotations_of(_texts_of(response))):
        made["annotations"] = annotations
    if calls:
        made["tool_calls"] = calls
    if items := [item for item in items_of(response) if item.get("type") == "reasoning"]:
        thoughts = [thought for item in items for thought in thoughts_of(item)]
        if thoughts:
            made["reasoning_content"] = BETWEEN_THOUGHTS.join(thoughts)
        made["reasoning_items"] = items
    return made


def call_of(item: Mapping[str, Any]) -> Fields | None:
    """Return the tool call of an item; None for any other item."""
    made: Fields = {"id": text_in(item, "call_id") or text_in(item, "id") or f"call_{uuid4().hex[:24]}"}
    match item.get("type"):
        case "function_call":
            function = {"name": text_in(item, "name"), "arguments": text_in(item, "arguments")}
            return {**made, "type": "function", "function": function}
        case "custom_tool_call":
            custom = {"name": text_in(item, "name"), "input": text_in(item, "input")}
            return {**made, "type": "custom", "custom": custom}
        case _:
            return None


def thoughts_of(item: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts of a reasoning item that are not empty: summaries, and the reasoning of open models."""
    for name, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
        for part in parts_of(item, name, kind):
            if text := text_in(part, "text"):
                yield text


def annotations_of(parts: Iterator[Mapping[str, Any]] | Sequence[Mapping[str, Any]], offset: int = 0) -> Iterator[Any]:
    """Yield the annotations of texts in a chat's form. `offset` is the length of the content before them."""
    for part in parts:
        given = part.get("annotations")
        for each in given if isinstance(given, list) else ():
            match each:
                case {"type": "url_citation", **citation}:
                    yield {"type": "url_citation", "url_citation": _moved(citation, offset)}
                case _:
                    yield each
        offset += len(text_in(part, "text"))


def logprobs_of(parts: Iterator[Mapping[str, Any]]) -> Fields | None:
    """Return the log probabilities of texts in a chat's form; None if they have none."""
    found = [each for part in parts if isinstance(part.get("logprobs"), list) for each in part["logprobs"]]
    return {"content": found, "refusal": None} if found else None


def _texts_of(response: Mapping[str, Any]) -> Iterator[Fields]:
    for item in items_of(response):
        if item.get("type") == "message":
            yield from parts_of(item, "content", "output_text")


def _moved(citation: Mapping[Any, Any], offset: int) -> Fields:
    return {
        name: value + offset if name in ("start_index", "end_index") and isinstance(value, int) else value
        for name, value in citation.items()
    }
