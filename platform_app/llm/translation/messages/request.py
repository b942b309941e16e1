"""Read a request of Anthropic's Messages API as a chat completion's.

Every field is translated, left out because it has no effect on the response, or refused by name. docs/http/messages.md
has the table.
"""

from collections.abc import Callable, Mapping
from typing import Any

from platform_app.llm.errors import unsupported
from platform_app.llm.translation.messages.tools import functions, read_tool_choice
from platform_app.llm.translation.messages.turns import chat_messages, system_messages

Fields = dict[str, Any]
EFFORTS: Mapping[str, str] = {
    "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "xhigh",
}  # fmt: skip
"""`reasoning_effort` by `output_config.effort`."""
BUDGETS = ((16_384, "high"), (4096, "medium"), (0, "low"))
"""`reasoning_effort` by the least `thinking.budget_tokens`."""
LEFT_OUT = frozenset(
    {
        "metadata",  # its user_id identifies Anthropic's user, and is telemetry of Claude Code
        "cache_control",  # providers of this format cache by themselves
        "context_management",  # it shortens old turns; the client sends them whole
        "diagnostics",
    }
)
"""Fields without an effect on the response."""
ONLY_AT_DEFAULT: Mapping[str, tuple[object, ...]] = {
    "speed": ("standard",), "container": (), "mcp_servers": ([],), "inference_geo": (),
}  # fmt: skip
_OTHER_NAMES = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k"}


def chat_of_messages(body: Mapping[str, Any]) -> Fields:
    """Return the fields of a chat completion's request, but model and stream.

    Raises:
        UnsupportedByProvider: a chat completion cannot express the request; the error names the field.
    """
    system = body.get("system")
    chat: Fields = {
        "messages": [*(system_messages(system) if system else ()), *chat_messages(body.get("messages"))],
    }
    for name, value in body.items():
        if value is None or name in ("messages", "system") or name in LEFT_OUT:
            continue
        if name in _OTHER_NAMES:
            chat[name] = value
        elif name in _TRANSLATED:
            _TRANSLATED[name](value, chat)
        elif value not in ONLY_AT_DEFAULT.get(name, ()):
            raise unsupported(name, "is not available on this model")
    return chat


def _limit(value: Any, chat: Fields) -> None:
    if value == 0:
        raise unsupported("max_tokens", "must be at least 1 on this model")
    chat["max_completion_tokens"] = value


def _stop(value: Any, chat: Fields) -> None:
    if value:
        chat["stop"] = value


def _tools(value: Any, chat: Fields) -> None:
    if made := functions(value):  # OpenAI refuses an empty list
        chat["tools"] = made


def _thinking(value: Any, chat: Fields) -> None:
    """Read a thinking budget as an effort. Without one the model decides, as with `adaptive`; `disabled` is the same as
    no field, and not every model knows an effort of none."""
    match value:
        case {"type": "enabled", "budget_tokens": int(budget)} if not isinstance(budget, bool):
            if budget < 0:
                raise unsupported("thinking.budget_tokens", "must not be negative")
            chat.setdefault("reasoning_effort", next(effort for least, effort in BUDGETS if budget >= least))
        case {"type": "enabled" | "adaptive" | "between_tools" | "disabled"}:
            return
        case _:
            raise unsupported("thinking", "must be of type enabled, adaptive, between_tools or disabled")


def _output_config(value: Any, chat: Fields) -> None:
    if not isinstance(value, dict):
        raise unsupported("output_config", "must be an object")
    for name, each in value.items():
        if each is None:
            continue
        if name == "effort" and isinstance(each, str) and each in EFFORTS:
            chat["reasoning_effort"] = EFFORTS[each]
        elif name == "format":
            _output_format(each, chat)
        else:
            raise unsupported(f"output_config.{name}", "is not available on this model")


def _output_format(value: Any, chat: Fields) -> None:
    match value:
        case {"type": "json_schema", "schema": dict(schema)}:
            strict = _may_be_strict(schema)
            named = {"name": "response", "schema": schema, "strict": strict}
            chat["response_format"] = {"type": "json_schema", "json_schema": named}
        case _:
            raise unsupported("output_config.format", "must be of type json_schema, with a schema")


def _may_be_strict(schema: object) -> bool:
    """Return whether OpenAI can enforce the schema: it requires that every property is required."""
    if isinstance(schema, list):
        return all(map(_may_be_strict, schema))
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict):
        required = schema.get("required")
        listed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
        if schema.get("additionalProperties") is not False or set(properties) != listed:
            return False
    return all(map(_may_be_strict, schema.values()))


def _service_tier(value: Any, chat: Fields) -> None:
    if value == "standard_only":
        chat["service_tier"] = "default"
    elif value != "auto":
        raise unsupported("service_tier", "must be auto or standard_only on this model")


_TRANSLATED: Mapping[str, Callable[[Any, Fields], None]] = {
    "max_tokens": _limit,
    "stop_sequences": _stop,
    "tools": _tools,
    "tool_choice": read_tool_choice,
    "thinking": _thinking,
    "output_config": _output_config,
    "output_format": _output_format,
    "service_tier": _service_tier,
}
