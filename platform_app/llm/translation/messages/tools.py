"""Read the tools of a Messages request as a chat completion's functions."""

from typing import Any

import orjson

from platform_app.llm.errors import unsupported
from platform_app.llm.providers.anthropic.request_fields import runs_at_client
from platform_app.llm.translation.function_fields import require_function

Fields = dict[str, Any]
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def functions(given: object) -> list[Fields]:
    """Return the functions of a chat completion.

    Raises:
        UnsupportedByProvider: a tool is not one that the client describes itself.
    """
    if not isinstance(given, list):
        raise unsupported("tools", "must be a list")
    return [_function(tool, f"tools.{index}") for index, tool in enumerate(given)]


def _function(tool: Any, where: str) -> Fields:
    if not isinstance(tool, dict):
        raise unsupported(where, "must be an object")
    kind = tool.get("type")
    if kind not in (None, "custom"):
        runs = "Anthropic's models alone know it" if runs_at_client(str(kind)) else "it runs at Anthropic"
        raise unsupported(f"{where}.type", f"'{str(kind)[:64]}' is not available on this model: {runs}")
    if not isinstance(tool.get("name"), str):
        raise unsupported(f"{where}.name", "is required")
    require_function(tool, where, "input_schema")
    if tool.get("defer_loading"):
        raise unsupported(f"{where}.defer_loading", "is not available on this model")
    if tool.get("allowed_callers") not in (None, ["direct"]):
        raise unsupported(f"{where}.allowed_callers", 'must be ["direct"] on this model')
    function: Fields = {"name": tool["name"], "parameters": tool.get("input_schema") or {"type": "object"}}
    if description := _description(tool):
        function["description"] = description
    if tool.get("strict") is not None:
        function["strict"] = tool["strict"]
    made: Fields = {"type": "function", "function": function}
    if tool.get("cache_control") is not None:
        made["cache_control"] = tool["cache_control"]
    return made


def _description(tool: Fields) -> str:
    """Return the description with the examples of the input, for which a function has no field."""
    description, examples = tool.get("description"), tool.get("input_examples")
    text = description if isinstance(description, str) else ""
    if not isinstance(examples, list) or not examples:
        return text
    written = "\n".join(orjson.dumps(example).decode() for example in examples)
    return f"{text}\n\nExamples of the input:\n{written}".strip()


def read_tool_choice(given: object, chat: Fields) -> None:
    """Add the tool choice. Raises UnsupportedByProvider if it is not one of Anthropic's."""
    if not isinstance(given, dict):
        raise unsupported("tool_choice", "must be an object")
    kind = given.get("type")
    if kind == "tool" and isinstance(given.get("name"), str):
        chat["tool_choice"] = {"type": "function", "function": {"name": given["name"]}}
    elif isinstance(kind, str) and kind in _CHOICES:
        chat["tool_choice"] = _CHOICES[kind]
    else:
        raise unsupported("tool_choice", "must be auto, any, none or a tool with a name")
    if given.get("disable_parallel_tool_use") and kind != "none":
        chat["parallel_tool_calls"] = False
