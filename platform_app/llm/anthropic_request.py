"""A chat request in OpenAI's shape as one of Anthropic's Messages API.

Every field is one of four things: translated, Anthropic's own and forwarded, without effect on the answer and left out,
or refused by name. Nothing that would change the answer is dropped in silence.
"""

from collections.abc import Callable, Mapping
from typing import Any

from platform_app.llm.anthropic_messages import system_and_messages
from platform_app.llm.provider_errors import not_available

DEFAULT_MAX_TOKENS = 8192
"""Anthropic wants a limit with every request, OpenAI none."""
MAX_TEMPERATURE = 1
EFFORTS: Mapping[str, str] = {
    "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max",
}  # fmt: skip
OWN_FIELDS = frozenset({"thinking", "top_k", "cache_control", "inference_geo"})
"""Of Anthropic's request, without a counterpart in OpenAI's: sent as they are."""
LEFT_OUT = frozenset(
    {"stream_options", "store", "metadata", "prompt_cache_key", "prompt_cache_retention", "prediction", "seed"}
)
"""Without effect on the answer, or, like seed, without a promise about it."""
ONLY_AT_DEFAULT: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
    "verbosity": ("medium",),
}
"""Left out where they ask for what happens anyhow, else refused."""
_UNKNOWN = "is not available on this model"

Fields = dict[str, Any]


def messages_request(model: str, body: Mapping[str, Any], *, stream: bool) -> Fields:
    """The request's body.

    Raises:
        ProviderRejectedRequest: naming the field that cannot be translated.
    """
    system, messages = system_and_messages(body.get("messages"))
    request: Fields = {"model": model, "max_tokens": DEFAULT_MAX_TOKENS, "messages": messages}
    if system:
        request["system"] = system
    if stream:
        request["stream"] = True
    for name, value in body.items():
        if value is None or name == "messages":
            continue
        if name in _TRANSLATED:
            _TRANSLATED[name](value, request)
        elif name in OWN_FIELDS:
            request[name] = value
        elif name not in LEFT_OUT and value not in ONLY_AT_DEFAULT.get(name, ()):
            raise not_available(name, _UNKNOWN)
    if body.get("max_completion_tokens") is not None:  # the newer name wins, whatever their order
        request["max_tokens"] = body["max_completion_tokens"]
    if body.get("parallel_tool_calls") is False and "tools" in request:
        _one_call_at_most(request)
    return request


def _max_tokens(value: Any, request: Fields) -> None:
    request["max_tokens"] = value


def _temperature(value: Any, request: Fields) -> None:
    if isinstance(value, int | float) and value > MAX_TEMPERATURE:
        raise not_available("temperature", f"must be at most {MAX_TEMPERATURE} on this model")
    if value != 1:  # the default, which newer models take from nobody
        request["temperature"] = value


def _top_p(value: Any, request: Fields) -> None:
    if value != 1:
        request["top_p"] = value


def _stop(value: Any, request: Fields) -> None:
    stops = [value] if isinstance(value, str) else value
    if stops:
        request["stop_sequences"] = stops


def _user(value: Any, request: Fields) -> None:
    request["metadata"] = {"user_id": value}


def _effort(value: Any, request: Fields) -> None:
    if value == "none":
        request.setdefault("thinking", {"type": "disabled"})
        return
    effort = EFFORTS.get(value) if isinstance(value, str) else None
    if effort is None:
        raise not_available("reasoning_effort", f"must be none, {', '.join(EFFORTS)}")
    request.setdefault("output_config", {})["effort"] = effort


def _response_format(value: Any, request: Fields) -> None:
    match value:
        case {"type": "text"}:
            return
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            request.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}
        case {"type": "json_schema"}:
            raise not_available("response_format.json_schema.schema", "is required")
        case _:
            raise not_available("response_format", "must be of type text or json_schema on this model")


def _tools(value: Any, request: Fields) -> None:
    if not isinstance(value, list):
        raise not_available("tools", "must be a list")
    if value:
        request["tools"] = [_tool(tool, index) for index, tool in enumerate(value)]


def _tool(tool: Any, index: int) -> Fields:
    match tool:
        case {"type": "function", "function": {"name": str(name), **function}}:
            made: Fields = {
                "name": name,
                "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
            }
            if function.get("description"):
                made["description"] = function["description"]
            if function.get("strict"):
                made["strict"] = True
            if "cache_control" in tool:
                made["cache_control"] = tool["cache_control"]
            return made
        case _:
            raise not_available(f"tools.{index}", "must be a function with a name on this model")


def _tool_choice(value: Any, request: Fields) -> None:
    match value:
        case "auto" | "none":
            request["tool_choice"] = {"type": value}
        case "required":
            request["tool_choice"] = {"type": "any"}
        case {"type": "function", "function": {"name": str(name)}}:
            request["tool_choice"] = {"type": "tool", "name": name}
        case _:
            raise not_available("tool_choice", "must be none, auto, required or a function on this model")


def _one_call_at_most(request: Fields) -> None:
    choice = request.setdefault("tool_choice", {"type": "auto"})
    if choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True


def _nothing(value: Any, request: Fields) -> None:
    """For fields that are read elsewhere."""


_TRANSLATED: Mapping[str, Callable[[Any, Fields], None]] = {
    "max_tokens": _max_tokens,
    "max_completion_tokens": _max_tokens,
    "temperature": _temperature,
    "top_p": _top_p,
    "stop": _stop,
    "user": _user,
    "safety_identifier": _user,
    "reasoning_effort": _effort,
    "response_format": _response_format,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "parallel_tool_calls": _nothing,
}
