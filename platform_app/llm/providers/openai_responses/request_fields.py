"""Decide which fields of a Responses request may reach a provider: openai/request_fields.py for this format.

Unknown fields pass, and fields that change what the gateway has decided are refused unless the config file allows them
for the provider. `store` and `previous_response_id` are not listed here: the route checks who owns the response.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from platform_app.llm.providers.openai.request_fields import (
    MAX_NAME,
    RESPONSES_FIELDS,
    USUAL_TIERS,
    kind_of_tool,
    metadata_instructions,
    references,
)

KNOWN_FIELDS = RESPONSES_FIELDS
"""OpenAI's fields of Responses: only their values are checked. `model` and `stream` are read before."""

CLIENT_TOOLS = frozenset(
    {"function", "custom", "local_shell", "apply_patch", "computer", "computer_use_preview", "namespace"}
)
"""The types of tools that the client runs. `shell` and `tool_search` run at the client or at the provider."""


def extra_fields(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields that are not OpenAI's, in their order. Values of OpenAI's fields that have more effect than the
    field itself are added: as `field`, or as `field.part`."""
    names = [name for name in body if name not in KNOWN_FIELDS]
    names += [name for name in ("background", "conversation") if body.get(name)]
    if body.get("prompt") is not None:  # a stored prompt has its own model and tools
        names.append("prompt.id")
    names += references(body)
    tier = body.get("service_tier")
    if tier is not None and tier not in USUAL_TIERS:
        names.append("service_tier")
    names += [f"tools.{kind}" for kind in _hosted(body.get("tools"))]
    names += _in_items(body.get("input"))
    return (*dict.fromkeys(names), *metadata_instructions(body))


_OFFERED = "web_search"
"""The hosted tool that Codex declares in each request, beside its own tools, unless its configuration says
otherwise."""


def offered_tools(body: Mapping[str, Any], extra: Collection[str]) -> tuple[str, ...]:
    """Return which of the extra fields are hosted tools that the client only offers in `tools`: the model may use the
    tools that the client runs instead, so the request works without them. A tool that an input item adds is not left
    out, so it does not count as an offer."""
    name = f"tools.{_OFFERED}"
    if name not in extra or body.get("tool_choice") not in (None, "auto") or name in _in_items(body.get("input")):
        return ()
    own = any(isinstance(tool, Mapping) and runs_at_client(str(tool.get("type")), tool) for tool in body["tools"])
    return (name,) if own else ()


def _hosted(tools: object) -> Iterator[str]:
    """Yield the types of the tools that run at the provider."""
    for tool in tools if isinstance(tools, list) else ():
        kind = kind_of_tool(tool)
        if not runs_at_client(kind, tool):
            yield kind[:MAX_NAME]


def runs_at_client(kind: str, tool: Mapping[str, Any]) -> bool:
    """Return whether the client runs a tool of this type."""
    match kind:
        case "shell":
            environment = tool.get("environment")
            return environment is None or (isinstance(environment, Mapping) and environment.get("type") == "local")
        case "tool_search":
            return tool.get("execution") == "client"
        case "namespace":
            return not any(_hosted(tool.get("tools")))
        case _:
            return kind in CLIENT_TOOLS


def _in_items(items: object) -> Iterator[str]:
    """Yield the effects of input items beyond their text: they add tools, or refer to stored items."""
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, Mapping):
            continue
        if isinstance(item.get("tools"), list):
            yield from (f"tools.{kind}" for kind in _hosted(item["tools"]))
        if _is_reference(item):
            yield "input.item_reference"


def _is_reference(item: Mapping[str, Any]) -> bool:
    """Return whether an input item names a stored one, as far as its type shows. Stored reasoning: reasoning.py."""
    match item.get("type"):
        case "item_reference":
            return True
        case "image_generation_call":
            return not item.get("result")
        case str(kind) if kind:
            return False
        case _:  # a message needs no type; any other item without one is a reference
            return not isinstance(item.get("role"), str)
