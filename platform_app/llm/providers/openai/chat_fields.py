"""The fields of a chat completion, as OpenAI's servers take them.

A client's own chat completion passes as it came. In one that was translated, fields are left out that only other
formats have (translation/__init__.py): OpenAI refuses a request with an unknown member in a message or a tool.
"""

from collections.abc import Mapping
from typing import Any

from platform_app.llm.errors import unsupported
from platform_app.llm.formats import ApiFormat
from platform_app.llm.requests import UpstreamCall

_ELSEWHERE = frozenset({"cache_control", "thinking_blocks", "reasoning_items"})
Fields = dict[str, Any]


def chat_fields(call: UpstreamCall) -> Mapping[str, Any]:
    """Return the call's body as a chat completion's.

    Raises:
        UnsupportedByProvider: see UpstreamCall.chat_body.
    """
    body = call.chat_body()
    if call.format is ApiFormat.CHAT:
        return body
    made = {name: value for name, value in body.items() if name not in _ELSEWHERE}
    made["messages"] = [_message(message) for message in body["messages"]]
    if "tools" in body:
        made["tools"] = [_plain(tool) for tool in body["tools"]]
    return made


def _message(message: Fields) -> Fields:
    made: Fields = _plain(message)
    content, calls = made.get("content"), made.get("tool_calls")
    if isinstance(content, list):
        parts = [_plain(part) for part in content]
        for part in parts:
            if isinstance(part, dict) and isinstance(file := part.get("file"), dict) and "file_url" in file:
                raise unsupported("file_url", "files by URL are not available on this model; send file_data")
        alone = len(parts) == 1 and parts[0].keys() == {"type", "text"}
        made["content"] = parts[0]["text"] if alone else parts
    if isinstance(calls, list):
        made["tool_calls"] = [_plain(call) for call in calls]
    return made


def _plain(value: Any) -> Any:
    """Return an object without these members."""
    if not isinstance(value, dict) or value.keys().isdisjoint(_ELSEWHERE):
        return dict(value) if isinstance(value, dict) else value
    return {name: each for name, each in value.items() if name not in _ELSEWHERE}
