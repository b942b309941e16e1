"""Translate a chat request from OpenAI's shape to Anthropic's Messages API."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from platform_app.llm.errors import unsupported
from platform_app.llm.providers.anthropic.capabilities import ModelCapabilities, known_capabilities
from platform_app.llm.providers.anthropic.chat.messages import Conversation, mark, read_messages, tool_name
from platform_app.llm.providers.anthropic.chat.schemas import input_schema, output_schema
from platform_app.llm.providers.anthropic.chat.thinking import set_effort, set_max_tokens
from platform_app.llm.providers.field_table import Fields, FieldTable, output_limit

MAX_TEMPERATURE = 1
OWN_FIELDS = frozenset({"thinking", "top_k", "cache_control", "inference_geo"})
"""Fields of Anthropic's API without a counterpart in OpenAI's: forwarded unchanged."""
LEFT_OUT = frozenset(
    {"stream_options", "store", "metadata", "prompt_cache_key", "prompt_cache_retention", "prediction", "seed"}
)
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


def messages_request(
    model: str, body: Mapping[str, Any], *, stream: bool, capabilities: ModelCapabilities | None = None
) -> Fields:
    """Return the body of Anthropic's request. Without `capabilities`, the table's are used.

    Raises:
        ProviderRejectedRequest: a field cannot be translated; the error names it.
    """
    takes = capabilities or known_capabilities(model)
    conversation = read_messages(body.get("messages"))
    request: Fields = {"model": model, "messages": conversation.turns}
    if conversation.system:
        request["system"] = conversation.system
    if stream:
        request["stream"] = True
    _TABLE.translate(body, request)
    _require_tools(request, conversation)
    if body.get("parallel_tool_calls") is False and "tools" in request:
        _one_call_at_most(request)
    if not takes.structured_outputs:
        _remove_strict_schemas(request)
    limit = output_limit(body)
    set_effort(request, body.get("reasoning_effort"), limit, takes)
    set_max_tokens(request, limit, takes)
    return request


def _remove_strict_schemas(request: Fields) -> None:
    """Adapt the request to a model that enforces no schemas: tools keep theirs, unenforced, and a response_format is
    refused."""
    if "format" in request.get("output_config", {}):
        raise unsupported("response_format", "must be of type text on this model")
    for tool in request.get("tools", ()):
        tool.pop("strict", None)


def _require_tools(request: Fields, conversation: Conversation) -> None:
    if "tools" in request:
        choice = request.get("tool_choice", {})
        if choice.get("type") == "tool" and choice["name"] not in (tool["name"] for tool in request["tools"]):
            raise unsupported("tool_choice.function.name", "must be the name of one of the tools")
        return
    if "tool_choice" in request:
        raise unsupported("tool_choice", "is only available with tools")
    if conversation.ids.any:  # as after a hand-off to an agent without tools: Anthropic requires the called tools
        request["tools"] = _called_tools(conversation.turns)
        request["tool_choice"] = {"type": "none"}


def _called_tools(turns: Sequence[Mapping[str, Any]]) -> list[Fields]:
    """Return a definition of each tool that the conversation has called; its parameters are not known."""
    blocks = (block for turn in turns for block in turn["content"])
    names = dict.fromkeys(block["name"] for block in blocks if block["type"] == "tool_use")
    return [{"name": name, "input_schema": {"type": "object"}} for name in names]


def _temperature(value: Any, request: Fields) -> None:
    if isinstance(value, int | float) and value > MAX_TEMPERATURE:
        raise unsupported("temperature", f"must be at most {MAX_TEMPERATURE} on this model")
    if value != 1:  # newer models refuse even the default
        request["temperature"] = value


def _top_p(value: Any, request: Fields) -> None:
    if value != 1:
        request["top_p"] = value


def _stop(value: Any, request: Fields) -> None:
    stops = [value] if isinstance(value, str) else value
    if not stops:
        return
    for index, each in enumerate(stops if isinstance(stops, list) else ()):
        if isinstance(each, str) and not each.strip():
            where = "stop" if isinstance(value, str) else f"stop.{index}"
            raise unsupported(where, "must not be blank on this model")
    request["stop_sequences"] = stops


def _user(value: Any, request: Fields) -> None:
    request["metadata"] = {"user_id": value}


def _response_format(value: Any, request: Fields) -> None:
    match value:
        case {"type": "text"}:
            return
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            request.setdefault("output_config", {})["format"] = {
                "type": "json_schema",
                "schema": output_schema(schema, "response_format.json_schema.schema"),
            }
        case {"type": "json_schema"}:
            raise unsupported("response_format.json_schema.schema", "is required")
        case _:
            raise unsupported("response_format", "must be of type text or json_schema on this model")


def _tools(value: Any, request: Fields) -> None:
    if not isinstance(value, list):
        raise unsupported("tools", "must be a list")
    if value:
        request["tools"] = [_tool(tool, index) for index, tool in enumerate(value)]


def _tool(tool: Any, index: int) -> Fields:
    where = f"tools.{index}"
    match tool:
        case {"type": "function", "function": {"name": str(name), **function}}:
            inside = f"{where}.function"
            schema = input_schema(function.get("parameters"), f"{inside}.parameters")
            made: Fields = {"name": tool_name(name, f"{inside}.name"), "input_schema": schema}
            if function.get("description"):
                made["description"] = function["description"]
            if function.get("strict"):
                made["strict"] = True
                made["input_schema"] = output_schema(schema, f"{inside}.parameters")
            mark(made, tool.get("cache_control") or function.get("cache_control"), where)
            return made
        case _:
            raise unsupported(where, "must be a function with a name on this model")


def _tool_choice(value: Any, request: Fields) -> None:
    match value:
        case "auto" | "none":
            request["tool_choice"] = {"type": value}
        case "required":
            request["tool_choice"] = {"type": "any"}
        case {"type": "function", "function": {"name": str(name)}}:
            request["tool_choice"] = {"type": "tool", "name": name}
        case _:
            raise unsupported("tool_choice", "must be none, auto, required or a function on this model")


def _one_call_at_most(request: Fields) -> None:
    choice = request.setdefault("tool_choice", {"type": "auto"})
    if choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True


_TRANSLATED: Mapping[str, Callable[[Any, Fields], None]] = {
    "temperature": _temperature,
    "top_p": _top_p,
    "stop": _stop,
    "user": _user,
    "safety_identifier": _user,
    "response_format": _response_format,
    "tools": _tools,
    "tool_choice": _tool_choice,
}
_TABLE = FieldTable(
    _TRANSLATED, OWN_FIELDS, LEFT_OUT, ONLY_AT_DEFAULT,
    read_elsewhere=frozenset(
        {"messages", "max_tokens", "max_completion_tokens", "reasoning_effort", "parallel_tool_calls"}
    ),
)  # fmt: skip
