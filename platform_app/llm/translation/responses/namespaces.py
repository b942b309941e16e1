"""Carry the tools of a namespace through a chat completion: each name begins with the namespace's.

Codex groups tools that it runs itself in namespaces, and finds the tool of a call by both names.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Tool = Mapping[str, Any]


def flat_name(namespace: object, name: str) -> str:
    """Return the name of a tool in a chat completion."""
    return f"{namespace}__{name}" if namespace else name


def flat_tools(tools: object) -> Iterator[Tool]:
    """Yield the tools of a request, those of namespaces with their flat names.

    A client's search for tools is left out: the model has the tools that the request lists.
    """
    for tool in tools if isinstance(tools, list) else ():
        match tool:
            case {"type": "namespace", "name": str(namespace), "tools": list(inner)}:
                for each in inner:
                    named = isinstance(each, Mapping) and isinstance(each.get("name"), str)
                    yield {**each, "name": flat_name(namespace, each["name"])} if named else each
            case {"type": "tool_search", "execution": "client"}:
                pass
            case _:
                yield tool


def additional_tools(items: object) -> Iterator[tuple[str, object]]:
    """Yield the path and the tools of each item of the input that adds tools."""
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, Mapping) and item.get("type") == "additional_tools":
            yield f"input.{index}.tools", item.get("tools")


def declared_tools(request: Mapping[str, Any]) -> list[Any]:
    """Return all tools of a request, those that its input adds included."""
    listed = [request.get("tools"), *(tools for _, tools in additional_tools(request.get("input")))]
    return [tool for tools in listed if isinstance(tools, list) for tool in tools]


def names_by_flat_name(tools: object) -> Mapping[str, tuple[str, str]]:
    """Return the namespace and the name of each tool in a namespace, by its flat name."""
    spaces = [tool for tool in tools if isinstance(tool, Mapping)] if isinstance(tools, list) else []
    return {
        flat_name(space["name"], tool["name"]): (space["name"], tool["name"])
        for space in spaces
        if space.get("type") == "namespace"
        and isinstance(space.get("name"), str)
        and isinstance(space.get("tools"), list)
        for tool in space["tools"]
        if isinstance(tool, Mapping) and isinstance(tool.get("name"), str)
    }
