"""Decide which fields of a Messages request may reach a provider (docs/adr/0018).

Unknown fields pass, but for those that could choose another model, provider, address or price; see
openai/request_fields.py, whose names hold for this format too.
"""

from collections.abc import Mapping
from typing import Any

from platform_app.llm.providers.openai.request_fields import (
    MAX_NAME,
    MESSAGES_FIELDS,
    kind_of_tool,
    metadata_instructions,
    references,
)

KNOWN_FIELDS = MESSAGES_FIELDS
"""Anthropic's fields without an effect on model, address or price. `model` and `stream` are read before."""
CLIENT_TOOLS = ("bash_", "text_editor_", "computer_", "memory_", "browser_toolset_")
"""The first part of the types of Anthropic's tools that the client runs; a date follows. Every other type, but for
`custom`, runs at the provider."""
_USUAL_TIERS = (None, "auto", "standard_only")
_USUAL_SPEEDS = (None, "standard")


def extra_fields(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields that are not Anthropic's, or that steer, in their order. Values of Anthropic's fields that have
    more effect than the field itself are added as `field.part`."""
    names = [name for name in body if name not in KNOWN_FIELDS]
    tier, speed = body.get("service_tier"), body.get("speed")
    if tier not in _USUAL_TIERS:
        names.append("service_tier")
    if speed not in _USUAL_SPEEDS:  # a faster model costs more than the listed price
        names.append(f"speed.{str(speed)[:MAX_NAME]}")
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        if not isinstance(kind, str):  # the client's own tool needs a name, and no type
            kind = "custom" if isinstance(tool, Mapping) and isinstance(tool.get("name"), str) else kind_of_tool(tool)
        if not runs_at_client(kind):
            names.append(f"tools.{kind[:MAX_NAME]}")
    return (*names, *references(body), *metadata_instructions(body))


def runs_at_client(kind: str) -> bool:
    """Return whether the client runs the tools of this type."""
    return kind == "custom" or kind.startswith(CLIENT_TOOLS)
