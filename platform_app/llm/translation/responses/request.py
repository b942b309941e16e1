"""Translate a request of the Responses API to a chat completion's.

Every field is translated, left out because it has no effect on a chat completion, or refused by name. Fields that are
not OpenAI's pass: the operator decides which of them a provider may get (providers/openai_responses/request_fields.py).
"""

from collections.abc import Callable, Mapping
from typing import Any

from platform_app.llm.errors import unsupported
from platform_app.llm.translation.responses.conversation import read_input
from platform_app.llm.translation.responses.tools import all_tools, allowed_by, choice_of

Fields = dict[str, Any]

SAME = frozenset(
    {"parallel_tool_calls", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier",
     "service_tier", "temperature", "top_p", "user"}
)  # fmt: skip
"""Fields that a chat completion has too."""
LEFT_OUT = frozenset({"client_metadata", "max_tool_calls", "metadata", "stream_options"})
"""Fields without an effect on a chat completion: `max_tool_calls` counts hosted tools, `metadata` is only repeated in
the response, OpenAI's chat completions take it only with `store`, and `stream_options` hides the length of deltas."""
ONLY_AT_DEFAULT: Mapping[str, tuple[object, ...]] = {
    "background": (False,),
    "context_management": ([],),
    "conversation": (),
    "moderation": (),
    "access_programs": (),
    "background_options": (),
    "image": (),
    "previous_response_id": (),
    "prompt": (),
    "store": (False,),
    "truncation": ("disabled",),
}
"""Fields that are left out if they have their default value, else refused."""
_STATE = frozenset({"conversation", "previous_response_id", "prompt", "store"})
LOGPROBS = "message.output_text.logprobs"
INCLUDABLE = frozenset(
    {LOGPROBS, "reasoning.encrypted_content", "file_search_call.results", "web_search_call.results",
     "web_search_call.action.sources", "message.input_image.image_url", "computer_call_output.output.image_url",
     "code_interpreter_call.outputs"}
)  # fmt: skip
"""The values of `include`. Encrypted reasoning is always included if there is any; the others but LOGPROBS are about
hosted tools and stored input, which a chat completion does not have."""
_EFFORT_ONLY = {"context": ("auto",), "mode": ("standard",)}
_NO_EFFECT = frozenset({"summary", "generate_summary"})
"""Members of `reasoning` without an effect: a provider's reasoning text is always included."""


def chat_of_responses(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a chat completion's request, but model and stream.

    Raises:
        UnsupportedByProvider: a chat completion cannot express the request; the error names the field.
    """
    request: Fields = {"messages": read_input(body.get("instructions"), body.get("input"))}
    for name, value in body.items():
        if value is None or name in _READ_ELSEWHERE or name in LEFT_OUT:
            continue
        if name in _TRANSLATED:
            _TRANSLATED[name](value, request)
        elif name not in ONLY_AT_DEFAULT:
            request[name] = value
        elif value not in ONLY_AT_DEFAULT[name]:
            raise unsupported(name, _why(name))
    _set_tools(body, request)
    return request


def _why(name: str) -> str:
    if name in _STATE:
        return "is not available on this model: its provider stores no responses. Send the whole conversation as input"
    return "is not available on this model"


def _set_tools(body: Mapping[str, Any], request: Fields) -> None:
    tools, choice = all_tools(body), body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        tools, choice = allowed_by(choice, tools)
    if tools:
        request["tools"] = tools
    else:
        request.pop("parallel_tool_calls", None)  # OpenAI's chat completions refuse it without tools
        if choice in ("auto", "none"):
            return
    if choice is not None:
        request["tool_choice"] = choice_of(choice)


def _limit(value: Any, request: Fields) -> None:
    request["max_completion_tokens"] = value


def _text(value: Any, request: Fields) -> None:
    if not isinstance(value, Mapping):
        raise unsupported("text", "must be an object")
    for name, setting in value.items():
        if setting is None:
            continue
        if name == "verbosity":
            request["verbosity"] = _word(setting, "text.verbosity")
        elif name == "format":
            _format(setting, request)
        else:
            raise unsupported(f"text.{name}"[:100], "is not available on this model")


def _format(value: Any, request: Fields) -> None:
    match value:
        case {"type": "text"}:
            return
        case {"type": "json_object"}:
            request["response_format"] = {"type": "json_object"}
        case {"type": "json_schema", "name": str(), "schema": dict(), **rest}:
            schema = {**rest, "name": value["name"], "schema": value["schema"]}
            described = {name: each for name, each in schema.items() if each is not None}
            request["response_format"] = {"type": "json_schema", "json_schema": described}
        case {"type": "json_schema"}:
            raise unsupported("text.format", "must have a name, which is a text, and a schema, which is an object")
        case _:
            raise unsupported("text.format", "must be of type text, json_schema or json_object on this model")


def _reasoning(value: Any, request: Fields) -> None:
    if not isinstance(value, Mapping):
        raise unsupported("reasoning", "must be an object")
    for name, setting in value.items():
        if setting is None or name in _NO_EFFECT or setting in _EFFORT_ONLY.get(name, ()):
            continue
        if name != "effort":
            raise unsupported(f"reasoning.{name}"[:100], "is not available on this model")
        request["reasoning_effort"] = _word(setting, "reasoning.effort")


def _word(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise unsupported(where, "must be a text")
    return value


def _include(value: Any, request: Fields) -> None:
    if not isinstance(value, list):
        raise unsupported("include", "must be a list")
    for index, name in enumerate(value):
        if not isinstance(name, str) or name not in INCLUDABLE:
            raise unsupported(f"include.{index}", "is not available on this model")
        if name == LOGPROBS:
            request["logprobs"] = True


def _top_logprobs(value: Any, request: Fields) -> None:
    if value:
        request["top_logprobs"] = value
        request["logprobs"] = True


_READ_ELSEWHERE = frozenset({"input", "instructions", "tools", "tool_choice", "model", "stream"})
_TRANSLATED: Mapping[str, Callable[[Any, Fields], None]] = {
    "max_output_tokens": _limit,
    "text": _text,
    "reasoning": _reasoning,
    "include": _include,
    "top_logprobs": _top_logprobs,
}
