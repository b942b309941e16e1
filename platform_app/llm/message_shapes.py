"""Read the messages of chat completions in the shapes that servers give them: their deltas, content and tool calls."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from platform_app.llm.codecs import lenient_json
from platform_app.llm.codecs.exact_json import is_json_object

Fields = Mapping[str, Any]
_TEXT_TYPES = (None, "text", "output_text")
T = TypeVar("T")


def delta_of(choice: Fields) -> Fields:
    """Return the delta of a choice. Some servers send `message` in the chunks of a stream too."""
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        delta = choice.get("message")
    return delta if isinstance(delta, dict) else {}


def parts_of(content: object) -> list[Any]:
    """Return the parts of a content that is not a text: a list, or one part alone."""
    if isinstance(content, dict):
        return [content]
    return content if isinstance(content, list) else []


def text_of_part(part: object) -> str | None:
    """Return the text of a part; None if it has none, such as an image, or the model's thinking."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type") not in _TEXT_TYPES:
        return None
    text = part.get("text")
    if isinstance(text, dict):
        text = text.get("value")
    return text if isinstance(text, str) else None


def calls_of(delta: Fields) -> list[Fields]:
    """Return the tool calls in a message or a delta, the function of the older API included."""
    calls = delta.get("tool_calls")
    if isinstance(calls, list) and calls:
        return [call for call in calls if isinstance(call, dict)]
    function = delta.get("function_call")
    return [{"function": function}] if isinstance(function, dict) else []


def called_in(call: Fields) -> Fields:
    """Return the function, or the custom tool, of a call."""
    called = call.get("function")
    if not isinstance(called, dict):
        called = call.get("custom")
    return called if isinstance(called, dict) else {}


def arguments_of(called: Fields, name: str = "arguments") -> str:
    """Return the arguments of a function as text. Some servers send the object itself."""
    given = called.get(name)
    if isinstance(given, str):
        return given
    return lenient_json.dumps(given).decode() if isinstance(given, dict | list) and given else ""


class _Known(Generic[T]):
    __slots__ = ("arguments", "call", "id", "name")

    def __init__(self, call: T) -> None:
        self.call = call
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []

    def is_complete(self) -> bool:
        last = next((part for part in reversed(self.arguments) if part.strip()), "")
        return last.rstrip().endswith("}") and is_json_object("".join(self.arguments))


class CallTable(Generic[T]):
    """Finds the call that a delta belongs to.

    OpenAI numbers the calls of a response. Other servers number all of them 0, or not at all, and send no ids, or an
    id with each delta. So an id decides before an index, and another name, or new arguments after a complete object,
    begin another call.
    """

    def __init__(self) -> None:
        self._at: dict[int, _Known[T]] = {}
        self._all: list[_Known[T]] = []
        self._by_id: dict[str, _Known[T]] = {}

    def __iter__(self) -> Iterator[T]:
        """Yield the calls in the order in which they began."""
        return (known.call for known in self._all)

    def __len__(self) -> int:
        return len(self._all)

    def find(self, position: int, delta: Fields, make: Callable[[], T]) -> T:
        """Return the call of a delta.

        Args:
            position: the delta's place in its list, used if it has no index.
            delta: a part of a call.
            make: creates a call. It is not kept: a method of the table's owner would make a reference cycle.
        """
        number, called = delta.get("index"), called_in(delta)
        index = number if type(number) is int else position
        call_id, name = _text(delta.get("id")), _text(called.get("name"))
        arguments = arguments_of(called)
        known = self._continued(self._at.get(index), call_id, name, arguments)
        if known is None:
            known = self._at[index] = _Known(make())
            self._all.append(known)
        if call_id and not known.id:
            known.id = call_id
            self._by_id.setdefault(call_id, known)
        known.name = known.name or name
        if arguments:
            known.arguments.append(arguments)
        return known.call

    def _continued(self, known: _Known[T] | None, call_id: str, name: str, arguments: str) -> _Known[T] | None:
        """Return the call that a delta continues; None if it begins one."""
        if known is None or (call_id and call_id == known.id):
            return known
        if call_id and known.id:
            return self._by_id.get(call_id) or (None if name else known)
        if name and known.name and (name != known.name or (arguments.strip() and known.is_complete())):
            return None
        return known


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
