"""The simulated model: it turns a request in OpenAI's shape into texts and tool calls. No I/O.

A token is up to four characters of text, OpenAI's rule of thumb for English. So a test can predict counts, and the same
four characters are one chunk of a stream.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import orjson

from apps.provider_simulator.model.json_schema import conforming_value
from apps.provider_simulator.model.script import InvalidScriptError, Turn, scripted_turn

CHARACTERS_PER_TOKEN = 4
MAX_CHOICES = 128
MAX_ANSWER_TOKENS = 100_000
_CALL = re.compile(r"call:\s*([\w.,-]+)")
_WORD = re.compile(r"[\w-]+")
_TOKENS = re.compile(r"tokens:\s*(\d{1,6})\b")
_REFUSE = "refuse:"
_EXACT = "exact:"
EXACT_ARGUMENTS = '{"order":123456789012345678901234567890,"least":-9223372036854775809,"rate":0.10,"mass":1.50E+25}'
"""Arguments with numbers that a parser would round or write differently."""

JsonObject = dict[str, object]


class InvalidRequestError(Exception):
    """A request for which providers return 400. `param` is the invalid field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class Answer(Protocol):
    """A correct response, as JSON or as a stream."""

    @property
    def before_text(self) -> int:
        """The number of `events` before the first with text."""

    @property
    def after_text(self) -> int:
        """The number of `events` from the last with text on."""

    def json(self) -> bytes:
        """The whole response body."""

    def events(self) -> list[bytes]:
        """The server-sent events, each with its blank line, the end marker last."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call of the simulated model; `arguments` is JSON text, or the text of a custom tool."""

    id: str
    name: str
    arguments: str
    custom: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice: text, or tool calls, or a refusal; `reasoning` is the reasoning text before it."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str
    reasoning: str = ""
    refusal: str = ""

    @property
    def tokens(self) -> int:
        """Completion tokens of this choice."""
        calls = sum(count_tokens(c.name + c.arguments) for c in self.tool_calls)
        return count_tokens(self.text) + count_tokens(self.refusal) + count_tokens(self.reasoning) + calls


def count_tokens(text: str) -> int:
    """Return the tokens of a text: a quarter of its characters, rounded up."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def text_of(message: Mapping[str, object]) -> str:
    """The text of a message, whose content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict))
    return " ".join(part for part in parts if isinstance(part, str))


def pieces(text: str) -> Iterator[str]:
    """Return the text in chunks of one token, as it is streamed."""
    return (text[at : at + CHARACTERS_PER_TOKEN] for at in range(0, len(text), CHARACTERS_PER_TOKEN))


def messages_of(body: Mapping[str, object]) -> list[JsonObject]:
    """The request's messages.

    Raises:
        InvalidRequestError: there are none, or one is no object.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequestError("Missing required parameter: 'messages'.", "messages")
    if not all(isinstance(message, dict) for message in messages):
        raise InvalidRequestError("Every one of 'messages' must be an object.", "messages")
    return messages


def choices_of(body: Mapping[str, object], label: str) -> list[Choice]:
    """Return the model's choices; `label` becomes a part of the ids of its tool calls.

    The text repeats the last user message: `You said: <text>`. Four messages steer it: `tokens:<n>` returns n tokens of
    filler; `call:<tool>[,<tool>…]` calls these tools, if the request has tools; `exact:<tool>` calls one with
    EXACT_ARGUMENTS; `refuse:` refuses. A `tool_choice` of "required" or a named function makes a call too. With "auto",
    which is the default, the model calls the tools that the message names. After a tool's result it returns text, so
    that a client's loop ends. With a `reasoning_effort` it reasons first. A message with a script (see script.py) plays
    the script's next turn.

    Raises:
        InvalidRequestError: messages are missing, or a field is malformed.
    """
    messages = messages_of(body)
    said = _what_was_said(messages)
    effort = body.get("reasoning_effort")
    reasoning = f"They say: {said[:200]}" if effort not in (None, "none") else ""
    return [replace(choice, reasoning=reasoning) for choice in _choices(body, messages, said, label)]


def _choices(body: Mapping[str, object], messages: list[JsonObject], said: str, label: str) -> list[Choice]:
    count = _positive(body, "n", MAX_CHOICES) or 1
    try:
        turn = scripted_turn(body, messages)
    except InvalidScriptError as error:
        raise InvalidRequestError(str(error), "messages") from error
    if turn is not None:
        return [_played(turn, _custom_tools(body.get("tools")), len(messages), label)] * count
    calls = _tool_calls(body, messages, said, label)
    if calls:
        return [Choice("", calls, "tool_calls")] * count
    if said.startswith(_REFUSE):
        return [Choice("", (), "stop", refusal="I cannot help with that.")] * count
    text = _formatted(body.get("response_format"), _plain_text(messages, said))
    limit = _positive(body, "max_completion_tokens", None) or _positive(body, "max_tokens", None)
    stops = _stops(body.get("stop"))
    if count == 1:
        return [_cut(text, stops, limit)]
    return [_cut(text if index == 0 else f"{text} [{index + 1}]", stops, limit) for index in range(count)]


def _played(turn: Turn, custom: frozenset[str], position: int, label: str) -> Choice:
    """Return a scripted turn; the ids of its calls differ from those of other turns, also with a seed."""
    calls = (
        ToolCall(f"call_{label}_{position}_{index}", call.name, call.arguments, call.name in custom)
        for index, call in enumerate(turn.calls)
    )
    return Choice(turn.text, tuple(calls), "tool_calls" if turn.calls else "stop")


def _what_was_said(messages: list[JsonObject]) -> str:
    asked = next((m for m in reversed(messages) if m.get("role") == "user"), messages[-1])
    return text_of(asked)


def _plain_text(messages: list[JsonObject], said: str) -> str:
    if messages[-1].get("role") == "tool":
        return f"The tool said: {text_of(messages[-1])}"
    filler = _TOKENS.match(said)
    if filler:
        tokens = min(int(filler[1]), MAX_ANSWER_TOKENS)
        return "".join(itertools.islice(itertools.cycle(("one ", "two ", "six ", "ten ")), tokens))
    return f"You said: {said}"


def _formatted(response_format: object, text: str) -> str:
    if not isinstance(response_format, dict):
        return text
    match response_format.get("type"):
        case "json_object":
            return orjson.dumps({"answer": text}).decode()
        case "json_schema":
            described = response_format.get("json_schema")
            if not isinstance(described, dict) or not isinstance(described.get("schema"), dict):
                raise InvalidRequestError("Missing 'response_format.json_schema.schema'.", "response_format")
            return orjson.dumps(conforming_value(described["schema"], text)).decode()
        case _:
            return text


def _cut(text: str, stops: list[str], limit: int | None) -> Choice:
    ends = [end for end in (text.find(stop) for stop in stops) if end >= 0]
    if ends:
        text = text[: min(ends)]
    if limit is not None and count_tokens(text) > limit:
        return Choice(text[: limit * CHARACTERS_PER_TOKEN], (), "length")
    return Choice(text, (), "stop")


def _stops(stop: object) -> list[str]:
    if stop is None:
        return []
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(item, str) and item for item in stops):
        raise InvalidRequestError("'stop' must be a string or a list of strings.", "stop")
    return stops


def _positive(body: Mapping[str, object], name: str, at_most: int | None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidRequestError(f"'{name}' must be an integer of at least 1.", name)
    if at_most is not None and value > at_most:
        raise InvalidRequestError(f"'{name}' must be at most {at_most}.", name)
    return value


def _tool_calls(body: Mapping[str, object], messages: list[JsonObject], said: str, label: str) -> tuple[ToolCall, ...]:
    functions = _functions(body.get("tools"))
    if functions and said.startswith(_EXACT) and messages[-1].get("role") != "tool":
        return (ToolCall(f"call_{label}_0", said.removeprefix(_EXACT).strip(), EXACT_ARGUMENTS),)
    custom = _custom_tools(body.get("tools"))
    names = _names_to_call(body.get("tool_choice"), functions, said, answered=messages[-1].get("role") == "tool")
    if body.get("parallel_tool_calls") is False:
        names = names[:1]
    calls = []
    for index, name in enumerate(names):
        if name in custom:
            calls.append(ToolCall(f"call_{label}_{index}", name, f"input of {name}", custom=True))
            continue
        parameters = functions.get(name) or {"type": "object"}
        arguments = orjson.dumps(conforming_value(parameters, "text")).decode()
        calls.append(ToolCall(f"call_{label}_{index}", name, arguments))
    return tuple(calls)


def _functions(tools: object) -> dict[str, object]:
    """Return the parameter schemas of the offered tools by name; a custom tool has none."""
    if not tools:
        return {}
    functions = {}
    for tool in tools if isinstance(tools, list) else [None]:
        kind = "custom" if isinstance(tool, dict) and tool.get("type") == "custom" else "function"
        function = tool.get(kind) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidRequestError("Every one of 'tools' must have a function with a name.", "tools")
        functions[function["name"]] = function.get("parameters")
    return functions


def _custom_tools(tools: object) -> frozenset[str]:
    """Return the names of the custom tools, whose input is plain text."""
    return frozenset(
        str(tool["custom"].get("name"))
        for tool in (tools if isinstance(tools, list) else ())
        if isinstance(tool, dict) and tool.get("type") == "custom" and isinstance(tool.get("custom"), dict)
    )


def _names_to_call(choice: object, functions: dict[str, object], said: str, *, answered: bool) -> list[str]:
    if not functions or choice == "none":
        return []
    named = (choice.get("function") or choice.get("custom")) if isinstance(choice, dict) else None
    if isinstance(named, dict):
        name = named.get("name")
        if name not in functions:
            raise InvalidRequestError("'tool_choice' names a function that 'tools' lacks.", "tool_choice")
        return [str(name)]
    asked = _CALL.match(said)
    if asked and not answered:
        # A tool that was not offered is called as well, because real models do that.
        return [name for name in asked[1].split(",") if name]
    if choice == "required":
        return [next(iter(functions))]
    words = set() if answered else set(_WORD.findall(said))
    return [name for name in functions if name in words]
