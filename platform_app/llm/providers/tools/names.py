"""Map names of tools to names that a provider accepts, and back in its response.

OpenAI requires 1 to 64 letters, digits, `_` and `-`, and Anthropic at most 128. Names of MCP servers' tools are longer,
or have dots and slashes. A name that the provider accepts is kept. Any other keeps its beginning and gets a hash of the
whole name, so it is the same in a later turn, and the provider's prompt cache works.

Names are mapped in chat completions, the neutral form: in the translated request, and in the response before it is
translated. Where no name is mapped, nothing of the response is touched.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from platform_app.llm.codecs import lenient_json
from platform_app.llm.http.event_stream import EventDecoder, ResponseReader
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.translation.function_fields import MAX_WITH_NAMESPACE, require_name

OPENAI_LENGTH = 64
ANTHROPIC_LENGTH = 128
_OTHER = re.compile(r"[^a-zA-Z0-9_-]+")
_GOOD = re.compile(r"[a-zA-Z0-9_-]+", re.ASCII)
_HASH_BYTES = 5
Fields = Mapping[str, Any]
_KINDS = ("function", "custom")


@dataclass(frozen=True, slots=True)
class ToolNames:
    """The names of one request that the provider does not accept."""

    made: Mapping[str, str]
    """By the client's name: the provider's."""

    def in_request(self, body: Fields) -> Fields:
        """Return a chat completion's request with the provider's names."""
        if not self.made:
            return body
        changed = dict(body)
        if isinstance(tools := body.get("tools"), list):
            changed["tools"] = [_renamed(tool, self.made) for tool in tools]
        if isinstance(messages := body.get("messages"), list):
            changed["messages"] = [_with_calls(message, self.made) for message in messages]
        if isinstance(choice := body.get("tool_choice"), dict):
            changed["tool_choice"] = _renamed_choice(choice, self.made)
        return changed

    def reader(self, reader: ResponseReader) -> ResponseReader:
        """Return a reader of the provider's responses that restores the client's names."""
        if not self.made:
            return reader
        given = {made: name for name, made in self.made.items()}

        def read_whole(raw: bytes) -> ModelResponse:
            return _whole_renamed(reader.read_whole(raw), given)

        return replace(reader, read_whole=read_whole, make_decoder=lambda: _Decoder(reader.make_decoder(), given))


NO_NAMES = ToolNames({})


def tool_names(body: Fields, longest: int) -> ToolNames:
    """Return the names of a chat completion's request that are longer, or have other characters.

    Raises:
        UnsupportedByProvider: a name has more than MAX_WITH_NAMESPACE characters. Each call of the response repeats its
            name, and each candidate for its replacement is a hash of it.
    """
    names = dict.fromkeys(_names(body))
    if any(len(name) > MAX_WITH_NAMESPACE for name in names):
        _refuse_long(body)
    bad = [name for name in names if name and (len(name) > longest or _GOOD.fullmatch(name) is None)]
    made: dict[str, str] = {}
    for name in bad:
        made[name] = next(each for each in _candidates(name, longest) if each not in names)
    return ToolNames(made)


def _refuse_long(body: Fields) -> None:
    for index, tool in enumerate(_objects(body.get("tools"))):
        _require_names(tool, f"tools[{index}]")
    for index, message in enumerate(_objects(body.get("messages"))):
        for number, call in enumerate(_objects(message.get("tool_calls"))):
            _require_names(call, f"messages[{index}].tool_calls[{number}]")


def _require_names(holder: Fields, where: str) -> None:
    for kind, name in _kinds_and_names(holder):
        require_name(name, f"{where}.{kind}.name", MAX_WITH_NAMESPACE)


def _candidates(name: str, longest: int) -> Iterator[str]:
    start = _OTHER.sub("_", name)
    number = 0
    while True:
        text = f"{number}:{name}" if number else name
        suffix = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=_HASH_BYTES).hexdigest()
        yield f"{start[: longest - len(suffix) - 1]}_{suffix}"
        number += 1


def _names(body: Fields) -> Iterator[str]:
    for tool in _objects(body.get("tools")):
        yield from _name_in(tool)
    for message in _objects(body.get("messages")):
        for call in _objects(message.get("tool_calls")):
            yield from _name_in(call)


def _name_in(holder: Fields) -> Iterator[str]:
    yield from (name for _, name in _kinds_and_names(holder))


def _kinds_and_names(holder: Fields) -> Iterator[tuple[str, str]]:
    for kind in _KINDS:
        inner = holder.get(kind)
        if isinstance(inner, dict) and isinstance(name := inner.get("name"), str):
            yield kind, name


def _objects(value: object) -> list[Fields]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _renamed(holder: Any, names: Mapping[str, str]) -> Any:
    """Return a tool or a call with its new name, if it has one."""
    if not isinstance(holder, dict):
        return holder
    for kind in _KINDS:
        inner = holder.get(kind)
        if isinstance(inner, dict) and (name := names.get(str(inner.get("name")))) is not None:
            return {**holder, kind: {**inner, "name": name}}
    return holder


def _renamed_choice(choice: Fields, names: Mapping[str, str]) -> Fields:
    allowed = choice.get("allowed_tools")
    if isinstance(allowed, dict) and isinstance(tools := allowed.get("tools"), list):
        return {**choice, "allowed_tools": {**allowed, "tools": [_renamed(tool, names) for tool in tools]}}
    renamed: Fields = _renamed(choice, names)
    return renamed


def _with_calls(message: Any, names: Mapping[str, str]) -> Any:
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    return {**message, "tool_calls": [_renamed(call, names) for call in calls]} if isinstance(calls, list) else message


class _Decoder:
    """Decodes the events of one response, with the client's names."""

    __slots__ = ("_given", "_inner", "complete")

    def __init__(self, inner: EventDecoder, given: Mapping[str, str]) -> None:
        self.complete = False
        self._inner = inner
        self._given = given

    @property
    def trailing(self) -> ChatChunk | None:
        """See EventDecoder.trailing."""
        return self._inner.trailing

    def decode(self, data: bytes) -> ChatChunk | None:
        """See EventDecoder.decode."""
        chunk = self._inner.decode(data)
        self.complete = self._inner.complete
        body = None if chunk is None else _body_renamed(chunk.body, "delta", self._given)
        return chunk if chunk is None or body is None else replace(chunk, raw=lenient_json.dumps(body), body=body)

    def finish(self) -> None:
        """See EventDecoder.finish."""
        self._inner.finish()


def _whole_renamed(response: ModelResponse, given: Mapping[str, str]) -> ModelResponse:
    body = _body_renamed(response.body, "message", given)
    return response if body is None else replace(response, raw=lenient_json.dumps(body), body=body)


def _body_renamed(body: Fields, member: str, given: Mapping[str, str]) -> Fields | None:
    """Return a chat completion or a chunk with the client's names; None if it has none of the provider's."""
    choices = body.get("choices")
    if not isinstance(choices, list) or not any(_calls_of(choice, member) for choice in choices):
        return None
    return {**body, "choices": [_choice_renamed(choice, member, given) for choice in choices]}


def _choice_renamed(choice: Any, member: str, given: Mapping[str, str]) -> Any:
    if not _calls_of(choice, member):
        return choice
    return {**choice, member: _with_calls(choice[member], given)}


def _calls_of(choice: object, member: str) -> bool:
    message = choice.get(member) if isinstance(choice, dict) else None
    return isinstance(message, dict) and bool(message.get("tool_calls"))
