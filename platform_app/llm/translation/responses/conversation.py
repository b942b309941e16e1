"""Translate the input of the Responses API, a list of items, to a chat completion's messages.

The items of one turn of the model are separate: reasoning, messages, calls. A chat completion has one assistant message
for all of them, and calls that are adjacent ran in parallel.
"""

from collections.abc import Callable, Mapping
from typing import Any

from platform_app.llm.codecs.value_count import ValueBudget
from platform_app.llm.errors import unsupported
from platform_app.llm.translation.carried import carried_thinking
from platform_app.llm.translation.responses.content import Part, assistant_parts, content_of, refusal_or_content
from platform_app.llm.translation.responses.namespaces import flat_name

Message = dict[str, Any]
REASONING_FIELDS = ("reasoning_content", "reasoning")
"""The fields in which chat servers send a model's reasoning as text."""
_CACHE = "cache_control"


def read_input(instructions: object, given: object) -> list[Message]:
    """Return the messages of a request.

    Raises:
        UnsupportedByProvider: an item is not valid, or a chat completion does not have it; the error names it.
    """
    made = Conversation()
    if instructions is not None:
        if isinstance(instructions, list):
            made.read(instructions, "instructions")
        else:
            made.add({"role": "system", "content": content_of(instructions, "instructions")})
    if isinstance(given, list):
        made.read(given, "input")
    else:
        made.add({"role": "user", "content": content_of(given, "input")})
    made.end_turn()
    return made.messages


class Conversation:
    """Collects the messages."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._turn: _Turn | None = None
        """The model's turn that is being read."""
        self._budget = ValueBudget()
        self._reasoning: list[Mapping[str, Any]] = []
        """The blocks of reasoning that belong to the next item of the model."""

    def read(self, items: list[Any], where: str) -> None:
        """Add the messages of these items."""
        for index, item in enumerate(items):
            path = f"{where}.{index}"
            if not isinstance(item, dict):
                raise unsupported(path, "must be an object")
            kind = item.get("type")
            if kind is None:
                kind = "message" if "role" in item else "item_reference"
            reader = _READERS.get(kind) if isinstance(kind, str) else None
            if reader is None:
                raise unsupported(path, f"items of type '{str(kind)[:40]}' are not available on this model")
            reader(self, item, path)

    def add(self, message: Message) -> None:
        """Add a message that is not the model's."""
        self.end_turn()
        self.messages.append(message)

    def end_turn(self) -> None:
        """Add the message of the model's turn. Reasoning without a message or a call after it belongs to no turn."""
        if self._turn is not None:
            self.messages.append(self._turn.message())
            self._turn = None
        self._reasoning = []

    def _message(self, item: Mapping[str, Any], where: str) -> None:
        role = item.get("role")
        if role == "assistant":
            parts = assistant_parts(item.get("content"), f"{where}.content")
            if self._turn is not None and self._turn.parts and not self._turn.calls:
                reasoning = self._reasoning
                self.end_turn()
                self._reasoning = reasoning
            turn = self._model_turn()
            turn.parts += parts
            turn.mark = item.get(_CACHE) or turn.mark
        elif role in ("user", "system", "developer"):
            # Servers other than OpenAI's know no developer; OpenAI's treat both roles alike.
            message = {
                "role": "user" if role == "user" else "system",
                "content": content_of(item.get("content"), f"{where}.content"),
            }
            self.add(_marked(message, item.get(_CACHE)))
        else:
            raise unsupported(f"{where}.role", "must be user, system, developer or assistant")

    def _call(self, item: Mapping[str, Any], where: str) -> None:
        custom = item["type"] == "custom_tool_call"
        call_id, name = _text(item, "call_id", where), flat_name(item.get("namespace"), _text(item, "name", where))
        if custom:
            called: Message = {"type": "custom", "custom": {"name": name, "input": _text(item, "input", where)}}
        else:
            function = {"name": name, "arguments": _text(item, "arguments", where)}
            called = {"type": "function", "function": function}
        self._model_turn().calls.append(_marked({"id": call_id, **called}, item.get(_CACHE)))

    def _output(self, item: Mapping[str, Any], where: str) -> None:
        message = {
            "role": "tool",
            "tool_call_id": _text(item, "call_id", where),
            "content": content_of(item.get("output"), f"{where}.output"),
        }
        self.add(_marked(message, item.get(_CACHE)))

    def _think(self, item: Mapping[str, Any], where: str) -> None:
        """Keep what the gateway carries. Reasoning of another provider has no meaning here and is left out."""
        sealed = item.get("encrypted_content")
        self._reasoning += carried_thinking(sealed, f"{where}.encrypted_content", self._budget) or ()

    def _skip(self, item: Mapping[str, Any], _: str) -> None:
        """Leave out an item that says nothing: tools.py reads the tools that it adds."""

    def _refer(self, _: Mapping[str, Any], where: str) -> None:
        raise unsupported(where, "item_reference names a stored item; its provider stores none. Send the item itself")

    def _model_turn(self) -> "_Turn":
        if self._turn is None:
            self._turn = _Turn()
        self._turn.reasoning += self._reasoning
        self._reasoning = []
        return self._turn


class _Turn:
    """The items of one turn of the model."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.calls: list[Message] = []
        self.reasoning: list[Mapping[str, Any]] = []
        self.mark: object = None

    def message(self) -> Message:
        """Return the assistant message."""
        made: Message = {"role": "assistant", **refusal_or_content(self.parts)}
        if self.calls:
            made["tool_calls"] = self.calls
        elif made["content"] is None and "refusal" not in made:
            made["content"] = ""
        if thinking := [block for block in self.reasoning if block.get("type") not in REASONING_FIELDS]:
            made["thinking_blocks"] = thinking
        for name in REASONING_FIELDS:
            texts = [text for block in self.reasoning if isinstance(text := block.get(name), str)]
            if texts:
                made[name] = "".join(texts)
        return _marked(made, self.mark)


def _marked(message: Message, mark: object) -> Message:
    if mark is not None:
        message[_CACHE] = mark
    return message


def _text(item: Mapping[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise unsupported(f"{where}.{name}", "must be a text")
    return value


_READERS: Mapping[str, Callable[[Conversation, Mapping[str, Any], str], None]] = {
    "message": Conversation._message,
    "function_call": Conversation._call,
    "custom_tool_call": Conversation._call,
    "function_call_output": Conversation._output,
    "custom_tool_call_output": Conversation._output,
    "reasoning": Conversation._think,
    "item_reference": Conversation._refer,
    "additional_tools": Conversation._skip,
}
