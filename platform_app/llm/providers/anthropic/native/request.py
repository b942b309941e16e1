"""Make the body for Anthropic of a client's Messages request. Only the model changes.

Thinking with a signature of the gateway came from another provider (translation/carried.py). Anthropic would refuse it,
so it is left out. Anthropic's own thinking is sent back unchanged.
"""

from collections.abc import Mapping
from typing import Any

from platform_app.llm.requests import UpstreamCall
from platform_app.llm.translation.carried import is_carried

COUNTED_FIELDS = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "thinking", "cache_control", "output_config",
     "output_format", "context_management", "mcp_servers"}
)  # fmt: skip
"""The fields of /v1/messages/count_tokens. It refuses other fields, which have no tokens."""


def native_request(call: UpstreamCall) -> dict[str, Any]:
    """Return the fields of the request."""
    body: dict[str, Any] = {**call.body, "model": call.model}
    if call.stream:
        body["stream"] = True
    messages = body.get("messages")
    if isinstance(messages, list) and any(_has_carried(message) for message in messages):
        body["messages"] = [made for message in messages if (made := _without_carried(message)) is not None]
    return body


def _has_carried(message: object) -> bool:
    content = message.get("content") if isinstance(message, Mapping) else None
    return isinstance(content, list) and any(_is_carried(block) for block in content)


def _is_carried(block: object) -> bool:
    return isinstance(block, Mapping) and block.get("type") == "thinking" and is_carried(block.get("signature"))


def _without_carried(message: Any) -> Any:
    """Return the message without such thinking; None if nothing else is in it."""
    if not _has_carried(message):
        return message
    content = [block for block in message["content"] if not _is_carried(block)]
    return {**message, "content": content} if content else None
