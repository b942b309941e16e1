"""Translate a chat's tools to those of the Responses API, which has no object around a function."""

from collections.abc import Mapping
from typing import Any

from platform_app.llm.errors import unsupported
from platform_app.llm.providers.openai_responses.request_fields import runs_at_client

Fields = dict[str, Any]


def tools_of(given: Any) -> list[Fields]:
    """Return the tools. A hosted tool, which the config file must allow, is forwarded unchanged.

    Raises:
        ProviderRejectedRequest: a tool cannot be translated; the error names it.
    """
    if not isinstance(given, list):
        raise unsupported("tools", "must be a list")
    return [_tool(tool, f"tools.{index}") for index, tool in enumerate(given)]


def tool_choice_of(given: Any) -> Any:
    """Return the tool choice. Raises ProviderRejectedRequest if it cannot be translated."""
    match given:
        case "auto" | "none" | "required":
            return given
        case {"type": "function", "function": {"name": str(name)}}:
            return {"type": "function", "name": name}
        case {"type": "custom", "custom": {"name": str(name)}}:
            return {"type": "custom", "name": name}
        case {"type": "allowed_tools", "allowed_tools": {"mode": str(mode), "tools": list(tools)}}:
            return {"type": "allowed_tools", "mode": mode, "tools": [tool_choice_of(tool) for tool in tools]}
        case _:
            raise unsupported("tool_choice", "must be none, auto, required, a function or a custom tool on this model")


def _tool(tool: Any, where: str) -> Fields:
    match tool:
        case {"type": "function", "function": {"name": str(name), **function}}:
            # Without `strict` a chat's function is not strict, and that of a Responses request is.
            made: Fields = {"type": "function", "name": name, "strict": bool(function.get("strict"))}
            if function.get("description"):
                made["description"] = function["description"]
            made["parameters"] = _parameters(function.get("parameters"), f"{where}.function.parameters")
            return made
        case {"type": "custom", "custom": {"name": str(name), **custom}}:
            made = {"type": "custom", "name": name}
            if custom.get("description"):
                made["description"] = custom["description"]
            if custom.get("format") is not None:
                made["format"] = _format(custom["format"])
            return made
        case {"type": str(kind)} if kind not in ("function", "custom") and not runs_at_client(kind, tool):
            return dict(tool)
        case _:
            raise unsupported(where, "must be a function or a custom tool with a name on this model")


def _parameters(given: Any, where: str) -> Fields:
    """Return the schema of a function. One without parameters takes an empty object."""
    if given is None or given == {}:
        return {"type": "object", "properties": {}}
    if not isinstance(given, dict):
        raise unsupported(where, "must be a JSON Schema")
    return given


def _format(given: Mapping[str, Any] | Any) -> Any:
    match given:
        case {"type": "grammar", "grammar": dict(grammar)}:
            return {"type": "grammar", **grammar}
        case _:
            return given
