"""Check the members of a tool that the client describes."""

from collections.abc import Mapping
from typing import Any

from platform_app.llm.errors import unsupported
from platform_app.llm.field_types import FLAG, OBJECT, TEXT


def require_function(tool: Mapping[str, Any], where: str, schema: str) -> None:
    """Check the types of a tool's members; `schema` names the one with the JSON Schema of the input.

    Raises:
        UnsupportedByProvider: a member has another type; the error names it.
    """
    if not tool.get("name"):
        raise unsupported(f"{where}.name", "must not be empty")
    for name, expected in (("description", TEXT), (schema, OBJECT), ("strict", FLAG)):
        if not expected.allows(tool.get(name)):
            raise unsupported(f"{where}.{name}", f"must be {expected.words}")
