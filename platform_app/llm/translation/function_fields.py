"""Check the members of a tool that the client describes."""

from collections.abc import Mapping
from typing import Any

from platform_app.llm.errors import unsupported
from platform_app.llm.field_types import FLAG, OBJECT, TEXT

MAX_NAME = 256
"""The characters of a tool's or a namespace's name. Providers take 64 or 128, and a namespace's name is repeated for
each of its tools."""


MAX_WITH_NAMESPACE = 2 * MAX_NAME + 2
"""The characters of a tool's name with its namespace."""


def require_name(name: str, where: str, most: int = MAX_NAME) -> None:
    """Raise UnsupportedByProvider for a name that is too long."""
    if len(name) > most:
        raise unsupported(where, f"must be at most {most} characters")


def require_function(tool: Mapping[str, Any], where: str, schema: str) -> None:
    """Check the types of a tool's members; `schema` names the one with the JSON Schema of the input.

    Raises:
        UnsupportedByProvider: a member has another type; the error names it.
    """
    if not tool.get("name"):
        raise unsupported(f"{where}.name", "must not be empty")
    require_name(tool["name"], f"{where}.name")
    for name, expected in (("description", TEXT), (schema, OBJECT), ("strict", FLAG)):
        if not expected.allows(tool.get(name)):
            raise unsupported(f"{where}.{name}", f"must be {expected.words}")
