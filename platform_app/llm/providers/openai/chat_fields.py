"""The fields of a chat completion, as OpenAI's servers take them.

A client's own chat completion passes as it came. In one that was translated, fields are left out that only other
formats have (translation/__init__.py): OpenAI refuses a request with an unknown member in a message or a tool.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from platform_app.llm.errors import unsupported
from platform_app.llm.formats import ApiFormat
from platform_app.llm.providers.tools.names import NO_NAMES, OPENAI_LENGTH, ToolNames, tool_names
from platform_app.llm.requests import UpstreamCall
from platform_app.llm.translation.attachments import attachment_notes
from platform_app.llm.translation.guard import translating

_ELSEWHERE = frozenset({"cache_control", "thinking_blocks", "reasoning_items"})
Fields = dict[str, Any]


@translating
def sent_fields(call: UpstreamCall, allow_fields: Collection[str] = ()) -> tuple[Mapping[str, Any], ToolNames]:
    """Return the call's body as the provider gets it, and the names of tools in it that are not the client's.

    Raises:
        UnsupportedByProvider: see chat_fields.
    """
    fields = chat_fields(call, allow_fields)
    if call.format is ApiFormat.CHAT:
        return fields, NO_NAMES
    names = tool_names(fields, OPENAI_LENGTH)
    return names.in_request(fields), names


def chat_fields(call: UpstreamCall, allow_fields: Collection[str] = ()) -> Mapping[str, Any]:
    """Return the call's body as a chat completion's. `allow_fields` are the provider's in the config file.

    Raises:
        UnsupportedByProvider: see UpstreamCall.chat_body; or a field that OpenAI's servers refuse is not allowed.
    """
    body = call.chat_body()
    if call.format is ApiFormat.CHAT:
        return body
    made = {name: value for name, value in body.items() if name not in _ELSEWHERE}
    if call.format is ApiFormat.MESSAGES and made.get("top_k") is not None and "top_k" not in allow_fields:
        raise unsupported("top_k", "is not available on this model")
    messages = [_message(message, f"messages.{index}") for index, message in enumerate(body["messages"])]
    made["messages"] = list(_with_text_results(messages))
    if "tools" in body:
        made["tools"] = [_plain(tool) for tool in body["tools"]]
    return made


def _message(message: Fields, where: str) -> Fields:
    made: Fields = _plain(message)
    content, calls = made.get("content"), made.get("tool_calls")
    if isinstance(content, list):
        parts = [_plain(part) for part in content]
        for index, part in enumerate(parts):
            if isinstance(part, dict) and isinstance(file := part.get("file"), dict) and "file_url" in file:
                field = f"{where}.content.{index}.file.file_url"
                raise unsupported(field, "files by URL are not available on this model; send their data")
        alone = len(parts) == 1 and parts[0].keys() == {"type", "text"}
        made["content"] = parts[0]["text"] if alone else parts
    if isinstance(calls, list):
        made["tool_calls"] = [_plain(call) for call in calls]
    return made


def _with_text_results(messages: Sequence[Fields]) -> Iterator[Fields]:
    """Yield the messages, with the images and files of tools' results in a user's message behind the results: OpenAI's
    chat completions have only text in a result."""
    moved: list[Fields] = []
    for message in messages:
        if message.get("role") != "tool":
            if moved:
                yield {"role": "user", "content": moved}
                moved = []
            yield message
            continue
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        others = [part for part in parts if part.get("type") != "text"]
        if not others:
            yield message
            continue
        texts = [part for part in parts if part.get("type") == "text"]
        note, head = attachment_notes(len(others), str(message.get("tool_call_id")))
        moved += [head, *others]
        yield {**message, "content": [*texts, note] if texts else note["text"]}
    if moved:
        yield {"role": "user", "content": moved}


def _plain(value: Any) -> Any:
    """Return an object without these members."""
    if not isinstance(value, dict) or value.keys().isdisjoint(_ELSEWHERE):
        return dict(value) if isinstance(value, dict) else value
    return {name: each for name, each in value.items() if name not in _ELSEWHERE}
