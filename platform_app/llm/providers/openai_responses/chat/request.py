"""Translate a chat request to the Responses API."""

from collections.abc import Callable, Mapping
from typing import Any

from platform_app.llm.errors import unsupported
from platform_app.llm.providers.field_table import Fields, FieldTable, output_limit
from platform_app.llm.providers.openai_responses.chat.items import InputItems
from platform_app.llm.providers.openai_responses.chat.tools import tool_choice_of, tools_of
from platform_app.llm.providers.openai_responses.reasoning import ENCRYPTED, reasons

SAME = frozenset(
    {"temperature", "top_p", "top_logprobs", "parallel_tool_calls", "metadata", "user", "safety_identifier",
     "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "service_tier", "truncation",
     "max_tool_calls"}
)  # fmt: skip
"""Fields of both formats, and Responses' own without a counterpart in chats: forwarded unchanged."""
LEFT_OUT = frozenset({"store", "prediction", "seed", "cache_control"})
ONLY_AT_DEFAULT: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "stop": ([], ""),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
}
_LOGPROBS = "message.output_text.logprobs"


def responses_request(model: str, body: Mapping[str, Any], *, stream: bool) -> Fields:
    """Return the body of a Responses request. Nothing is stored at the provider.

    Raises:
        ProviderRejectedRequest: a field cannot be translated; the error names it.
    """
    made = InputItems()
    made.read(body.get("messages"))
    request: Fields = {"model": model, "input": made.items, "store": False}
    if stream:
        request["stream"] = True
    _TABLE.translate(body, request)
    if (limit := output_limit(body)) is not None:
        request["max_output_tokens"] = limit
    if made.has_reasoning or reasons(model, request.get("reasoning")):
        request.setdefault("include", []).append(ENCRYPTED)
    return request


def _reasoning_effort(value: Any, request: Fields) -> None:
    request.setdefault("reasoning", {})["effort"] = value


def _reasoning(value: Any, request: Fields) -> None:
    """Add OpenRouter's `reasoning`, as far as it is Responses' own; the effort of `reasoning_effort` has precedence."""
    if not isinstance(value, dict) or value.keys() - {"effort", "summary"}:
        raise unsupported("reasoning", "may have effort and summary on this model")
    request["reasoning"] = {**value, **request.get("reasoning", {})}


def _verbosity(value: Any, request: Fields) -> None:
    request.setdefault("text", {})["verbosity"] = value


def _logprobs(value: Any, request: Fields) -> None:
    if value:
        request.setdefault("include", []).append(_LOGPROBS)


def _stream_options(value: Any, request: Fields) -> None:
    if isinstance(value, dict) and "include_obfuscation" in value and "stream" in request:
        request["stream_options"] = {"include_obfuscation": value["include_obfuscation"]}


def _response_format(value: Any, request: Fields) -> None:
    match value:
        case {"type": "text"}:
            return
        case {"type": "json_object"}:
            made: Fields = {"type": "json_object"}
        case {"type": "json_schema", "json_schema": {"schema": dict(schema), **described}}:
            # Without `strict` a chat's schema is not strict, and that of a Responses request may be.
            made = {"type": "json_schema", "name": described.get("name") or "response", "schema": schema}
            made["strict"] = bool(described.get("strict"))
            if described.get("description"):
                made["description"] = described["description"]
        case {"type": "json_schema"}:
            raise unsupported("response_format.json_schema.schema", "is required")
        case _:
            raise unsupported("response_format", "must be of type text, json_object or json_schema on this model")
    request.setdefault("text", {})["format"] = made


def _tools(value: Any, request: Fields) -> None:
    if tools := tools_of(value):
        request["tools"] = tools


def _tool_choice(value: Any, request: Fields) -> None:
    request["tool_choice"] = tool_choice_of(value)


_TRANSLATED: Mapping[str, Callable[[Any, Fields], None]] = {
    "reasoning_effort": _reasoning_effort,
    "reasoning": _reasoning,
    "verbosity": _verbosity,
    "logprobs": _logprobs,
    "stream_options": _stream_options,
    "response_format": _response_format,
    "tools": _tools,
    "tool_choice": _tool_choice,
}
_TABLE = FieldTable(
    _TRANSLATED, SAME, LEFT_OUT, ONLY_AT_DEFAULT,
    read_elsewhere=frozenset({"messages", "max_tokens", "max_completion_tokens"}),
)  # fmt: skip
