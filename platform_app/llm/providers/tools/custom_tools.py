"""Offer custom tools, whose input is a free text, to a provider that has functions alone.

A custom tool becomes a function with one text, `input`. Its grammar becomes a part of the description: the provider
does not enforce it. A call of the function becomes a call of the custom tool again. In a stream its input comes whole,
after the provider's last part of it: the provider sends it as JSON.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import from_json

from platform_app.llm import errors
from platform_app.llm.codecs import lenient_json
from platform_app.llm.errors import unsupported
from platform_app.llm.finish_reasons import reason_of
from platform_app.llm.http.event_stream import EventDecoder, ResponseReader
from platform_app.llm.responses import ChatChunk, ModelResponse

Fields = Mapping[str, Any]
INPUT = "input"
_SCHEMA: Fields = {
    "type": "object",
    "properties": {INPUT: {"type": "string", "description": "The whole input of the tool."}},
    "required": [INPUT],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class CustomTools:
    """The names of a request's custom tools."""

    names: frozenset[str]

    def in_request(self, body: Fields) -> Fields:
        """Return a chat completion's request with functions in place of custom tools.

        Raises:
            UnsupportedByProvider: a custom tool is not valid; the error names it.
        """
        changed = dict(body)
        if self.names and isinstance(tools := body.get("tools"), list):
            changed["tools"] = [_function(tool, f"tools.{index}") for index, tool in enumerate(tools)]
        if isinstance(messages := body.get("messages"), list):
            changed["messages"] = [_with_functions(message) for message in messages]
        match body.get("tool_choice"):
            case {"type": "custom", "custom": {"name": str(name)}}:
                changed["tool_choice"] = {"type": "function", "function": {"name": name}}
        return changed

    def reader(self, reader: ResponseReader) -> ResponseReader:
        """Return a reader of the provider's responses that restores the calls of custom tools."""
        if not self.names:
            return reader

        def read_whole(raw: bytes) -> ModelResponse:
            return _whole_restored(reader.read_whole(raw), self.names)

        return replace(reader, read_whole=read_whole, make_decoder=lambda: _Decoder(reader.make_decoder(), self.names))


def custom_tools(body: Fields) -> CustomTools:
    """Return the custom tools of a chat completion's request."""
    tools = body.get("tools")
    found = [_custom(tool) for tool in tools] if isinstance(tools, list) else []
    return CustomTools(frozenset(each["name"] for each in found if each and isinstance(each.get("name"), str)))


def _custom(holder: Any) -> Fields | None:
    match holder:
        case {"type": "custom", "custom": dict(custom)}:
            return custom
        case _:
            return None


def _function(tool: Any, where: str) -> Any:
    custom = _custom(tool)
    if custom is None:
        return tool
    description = custom.get("description")
    if description is not None and not isinstance(description, str):
        raise unsupported(f"{where}.custom.description", "must be a text")
    text = "\n\n".join(filter(None, [description, _grammar(custom.get("format"))]))
    function: dict[str, Any] = {"name": custom.get("name"), "parameters": dict(_SCHEMA)}
    if text:
        function["description"] = text
    beside = {name: value for name, value in tool.items() if name not in ("type", "custom")}
    return {**beside, "type": "function", "function": function}


def _grammar(given: object) -> str | None:
    match given:
        case {"type": "grammar", "grammar": {"definition": str(definition), "syntax": str(syntax)}}:
            return f"The input must match this grammar ({syntax}):\n{definition}"
        case _:
            return None


def _with_functions(message: Any) -> Any:
    """Return a message whose calls of custom tools are calls of functions."""
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    if not isinstance(calls, list) or not any(_custom(call) for call in calls):
        return message
    return {**message, "tool_calls": [_called_function(call) for call in calls]}


def _called_function(call: Any) -> Any:
    match call:
        case {"type": "custom", "custom": {"name": str(name), "input": str(text)}, **beside}:
            arguments = lenient_json.dumps({INPUT: text}).decode()
            return {**beside, "type": "function", "function": {"name": name, "arguments": arguments}}
        case _:
            return call


def _input_of(arguments: str, name: str) -> str:
    """Return the input in the arguments of a call; what arrived of it if the response was cut."""
    try:
        given = from_json(lenient_json.joined(arguments) or "{}", allow_partial="trailing-strings")
    except ValueError:
        given = None
    text = given.get(INPUT, "") if isinstance(given, dict) else None
    if not isinstance(text, str):
        raise errors.unusable_output(f"the input of the call '{name[:64]}' is not a text")
    return text


def _whole_restored(response: ModelResponse, names: frozenset[str]) -> ModelResponse:
    choices = response.body.get("choices")
    made = [_choice_restored(choice, names) for choice in choices] if isinstance(choices, list) else choices
    if made == choices:
        return response
    body = {**response.body, "choices": made}
    return replace(response, raw=lenient_json.dumps(body), body=body)


def _choice_restored(choice: Any, names: frozenset[str]) -> Any:
    match choice:
        case {"message": {"tool_calls": list(calls), **message}}:
            made = [_call_restored(call, names) for call in calls]
            return {**choice, "message": {**message, "tool_calls": made}}
        case _:
            return choice


def _call_restored(call: Any, names: frozenset[str]) -> Any:
    match call:
        case {"function": {"name": str(name), "arguments": str(arguments)}, **beside} if name in names:
            return {**beside, "type": "custom", "custom": {"name": name, "input": _input_of(arguments, name)}}
        case _:
            return call


class _Decoder:
    """Decodes the events of one response, with the calls of custom tools."""

    __slots__ = ("_arguments", "_inner", "_named", "_names", "complete")

    def __init__(self, inner: EventDecoder, names: frozenset[str]) -> None:
        self.complete = False
        self._inner = inner
        self._names = names
        self._named: dict[object, str] = {}
        """The names of the calls whose input has not been sent, by their index."""
        self._arguments: dict[object, str] = {}

    @property
    def trailing(self) -> ChatChunk | None:
        """See EventDecoder.trailing."""
        return self._inner.trailing

    def finish(self) -> None:
        """See EventDecoder.finish."""
        self._inner.finish()

    def decode(self, data: bytes) -> ChatChunk | None:
        """See EventDecoder.decode."""
        chunk = self._inner.decode(data)
        self.complete = self._inner.complete
        choices = None if chunk is None else chunk.body.get("choices")
        if chunk is None or not choices:
            return chunk
        choice = choices[0]
        delta = choice.get("delta") or {}
        calls = delta.get("tool_calls") or []
        if not calls and not (self._named and reason_of(choice)):
            return chunk
        made = [each for call in calls for each in self._restored(call)]
        if reason_of(choice):
            made += self._inputs(None)
        if made == calls:
            return chunk
        kept = {name: value for name, value in delta.items() if name != "tool_calls"}
        body = {**chunk.body, "choices": [{**choice, "delta": {**kept, **({"tool_calls": made} if made else {})}}]}
        return replace(chunk, raw=lenient_json.dumps(body), body=body)

    def _restored(self, call: Fields) -> Iterator[Fields]:
        index, function = call.get("index"), call.get("function") or {}
        name = function.get("name")
        if name:  # another call begins, so those before it are complete
            yield from self._inputs(index)
        if name in self._names:
            self._named[index], self._arguments[index] = name, function.get("arguments") or ""
            yield {"index": index, "id": call.get("id"), "type": "custom", "custom": {"name": name, "input": ""}}
        elif index in self._named:
            self._arguments[index] += function.get("arguments") or ""
        else:
            yield call

    def _inputs(self, beside: object) -> list[Fields]:
        """Return the inputs of the calls but one, which have arrived whole."""
        done = [index for index in self._named if index != beside]
        return [
            {"index": index, "custom": {"input": _input_of(self._arguments.pop(index), self._named.pop(index))}}
            for index in done
        ]
