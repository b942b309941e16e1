"""Translate the tools of the Responses API, which are flat, to a chat completion's, which are nested."""

from collections.abc import Mapping, Sequence
from typing import Any

from platform_app.llm.errors import unsupported
from platform_app.llm.translation.function_fields import require_function, require_name
from platform_app.llm.translation.responses.namespaces import additional_tools, flat_tools

CLIENT_TOOLS = ("function", "custom")
_DEFAULTS: Mapping[str, tuple[object, ...]] = {
    "defer_loading": (False,),
    "async": (False,),
    "allowed_callers": (["direct"], ["direct", "programmatic"], ["programmatic", "direct"], []),
}
"""Members of a tool that are left out if they have no effect, else refused."""
_LEFT_OUT = frozenset({"output_schema"})
"""It describes a result for programs of a hosted tool."""
_INSIDE = frozenset({"name", "description", "parameters", "strict"})
_UNAVAILABLE = "is not available on this model; leave it out"
_MAX_SHOWN = 64
Tool = dict[str, Any]


def read_tools(given: object, where: str = "tools") -> list[Tool]:
    """Return the tools. Raises UnsupportedByProvider for a tool that a chat completion does not have."""
    if given is None:
        return []
    if not isinstance(given, list):
        raise unsupported(where, "must be a list")
    made = []
    for index, tool in enumerate(given):
        spaced = isinstance(tool, Mapping) and tool.get("type") == "namespace"
        if spaced and isinstance(tool.get("name"), str):
            require_name(tool["name"], f"{where}.{index}.name")
        for inner, each in enumerate(flat_tools([tool])):
            made.append(_tool(each, f"{where}.{index}.tools.{inner}" if spaced else f"{where}.{index}"))
    return made


def all_tools(body: Mapping[str, Any]) -> list[Tool]:
    """Return the tools of a request and those that its input adds, each name once. Raises as read_tools."""
    tools = read_tools(body.get("tools"))
    known: set[str] | None = None
    for where, added in additional_tools(body.get("input")):
        if known is None:
            known = {_name_of(tool) for tool in tools}
        # The names in one item may repeat; those of the items before it may not.
        tools += (new := [tool for tool in read_tools(added, where) if _name_of(tool) not in known])
        known.update(map(_name_of, new))
    return tools


def _name_of(tool: Tool) -> str:
    name: str = tool[tool["type"]]["name"]
    return name


def _tool(tool: Any, where: str) -> Tool:
    match tool:
        case {"type": "function", "function": {"name": str()}}:  # a chat completion's own shape, which clients send
            return dict(tool)
        case {"type": "function", "name": str()}:
            function, beside = _divided(tool, _INSIDE, where)
            require_function(function, where, "parameters")
            function.setdefault("parameters", {"type": "object", "properties": {}})
            return {"type": "function", "function": function, **beside}
        case {"type": "custom", "name": str()}:
            custom, beside = _divided(tool, _INSIDE | {"format"}, where)
            require_function(custom, where, "parameters")
            if "format" in custom:
                custom["format"] = _custom_format(custom["format"], where)
            return {"type": "custom", "custom": custom, **beside}
        case {"type": "function" | "custom"}:
            raise unsupported(f"{where}.name", "is required")
        case {"type": str(kind)}:
            raise unsupported(f"tools.{kind[:_MAX_SHOWN]}", _UNAVAILABLE)
        case _:
            raise unsupported(where, "must be an object with a type")


def _divided(tool: Mapping[str, Any], inside: frozenset[str], where: str) -> tuple[Tool, Tool]:
    """Return the members that a chat completion has inside of the tool, and those beside it."""
    within: Tool = {}
    beside: Tool = {}
    for name, value in tool.items():
        if value is None or name in _LEFT_OUT or name == "type":
            continue
        if name in CLIENT_TOOLS:  # a chat completion's own member, beside those that it would have
            raise unsupported(f"{where}.{name}", "must not be sent with a name beside it")
        if name in inside:
            within[name] = value
        elif name not in _DEFAULTS:
            beside[name] = value
        elif value not in _DEFAULTS[name]:
            raise unsupported(f"{where}.{name}", "is not available on this model")
    return within, beside


def _custom_format(given: object, where: str) -> object:
    match given:
        case {"type": "grammar", "grammar": dict()} | {"type": "text"}:
            return given
        case {"type": "grammar", "definition": str(definition), "syntax": str(syntax)}:
            return {"type": "grammar", "grammar": {"definition": definition, "syntax": syntax}}
        case _:
            raise unsupported(f"{where}.format", "must be of type text or grammar on this model")


def choice_of(given: object) -> object:
    """Return the choice of a tool. Raises UnsupportedByProvider for one that a chat completion does not have."""
    match given:
        case "none" | "auto" | "required":
            return given
        case {"type": "function", "function": {"name": str()}}:
            return given
        case {"type": "function", "name": str(name)}:
            return {"type": "function", "function": {"name": name}}
        case {"type": "custom", "name": str(name)}:
            return {"type": "custom", "custom": {"name": name}}
        case _:
            raise unsupported("tool_choice", "must be none, auto, required, a function or a custom tool on this model")


def allowed_by(choice: Mapping[str, Any], tools: Sequence[Tool]) -> tuple[list[Tool], object]:
    """Return the allowed tools, and the choice among them. Not every provider has `allowed_tools`, and to leave the
    other tools out has the same effect.

    Raises:
        UnsupportedByProvider: the choice is not valid, or names a tool that the request does not have.
    """
    mode, listed = choice.get("mode", "auto"), choice.get("tools")
    if mode not in ("auto", "required"):
        raise unsupported("tool_choice.mode", "must be auto or required")
    if not isinstance(listed, list) or not listed:
        raise unsupported("tool_choice.tools", "must be a list with at least one tool")
    known = {(tool["type"], tool.get(tool["type"], {}).get("name")): tool for tool in tools}
    kept: dict[tuple[str, str], Tool] = {}
    for index, each in enumerate(listed):
        named = (str(each.get("type")), str(each.get("name"))) if isinstance(each, Mapping) else None
        if named is None or named not in known:
            raise unsupported(f"tool_choice.tools.{index}", "must be one of the tools")
        kept[named] = known[named]  # once, even if the list repeats it: a tool may be large
    return list(kept.values()), mode
