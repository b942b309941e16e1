"""Put the content of a chat completion, whole or in deltas, into Anthropic's content blocks.

A stream of Anthropic's has one open block at a time. A chat completion's deltas may alternate between its parts, for
example between parallel tool calls. So the segments form a queue: the deltas of the first one are sent as they arrive,
and those of the others wait until it is complete. A call is complete if its arguments are a whole JSON object, and
another segment has begun.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from uuid import uuid4

import orjson

from platform_app.llm import errors
from platform_app.llm.codecs import lenient_json
from platform_app.llm.codecs.exact_json import is_json_object
from platform_app.llm.codecs.partial_json import object_of_start
from platform_app.llm.message_shapes import CallTable, arguments_of, calls_of, parts_of, text_of_part
from platform_app.llm.translation.carried import carry_reasoning
from platform_app.llm.translation.messages.turns import REASONING_TEXT

Fields = dict[str, Any]


class Segment(Protocol):
    """The content of one block."""

    def opened(self) -> Fields:
        """Return the block as it is when it starts."""
        ...

    def deltas(self) -> Iterator[Fields]:
        """Yield the deltas that arrived since the last call."""
        ...

    def is_complete(self) -> bool:
        """Return whether the block may end once another segment has begun."""
        ...

    def ending(self, cut: bool) -> Iterator[Fields]:
        """Yield the last deltas. `cut`: the model stopped at a limit, so the content may be incomplete.

        Raises:
            ProviderBadResponse: the content is not valid.
        """
        ...

    def block(self, cut: bool) -> Fields:
        """Return the whole block, after `ending`."""
        ...


class TextSegment:
    """A text."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._sent = 0

    def add(self, text: str) -> None:
        """Add a part of the text."""
        self._parts.append(text)

    def opened(self) -> Fields:
        """See Segment.opened."""
        return {"type": "text", "text": ""}

    def deltas(self) -> Iterator[Fields]:
        """See Segment.deltas."""
        for text in self._parts[self._sent :]:
            yield {"type": "text_delta", "text": text}
        self._sent = len(self._parts)

    def is_complete(self) -> bool:
        """See Segment.is_complete."""
        return True

    def ending(self, cut: bool) -> Iterator[Fields]:
        """See Segment.ending."""
        return self.deltas()

    def block(self, cut: bool) -> Fields:
        """See Segment.block."""
        return {"type": "text", "text": "".join(self._parts)}


class ThinkingSegment:
    """Thinking. Without a provider's signature it gets one that carries where it came from, because clients leave out
    unsigned thinking when they send a turn back."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._sent = 0
        self.signature: str | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._parts)

    def add(self, text: str) -> None:
        """Add a part of the text."""
        self._parts.append(text)

    def opened(self) -> Fields:
        """See Segment.opened."""
        return {"type": "thinking", "thinking": "", "signature": ""}

    def deltas(self) -> Iterator[Fields]:
        """See Segment.deltas."""
        for text in self._parts[self._sent :]:
            yield {"type": "thinking_delta", "thinking": text}
        self._sent = len(self._parts)

    def is_complete(self) -> bool:
        """See Segment.is_complete."""
        return True

    def ending(self, cut: bool) -> Iterator[Fields]:
        """See Segment.ending."""
        yield from self.deltas()
        yield {"type": "signature_delta", "signature": self._signed()}

    def block(self, cut: bool) -> Fields:
        """See Segment.block."""
        return {"type": "thinking", "thinking": self.text, "signature": self._signed()}

    def _signed(self) -> str:
        return self.signature or carry_reasoning({"type": REASONING_TEXT})


class WholeSegment:
    """A block that arrives whole, such as redacted thinking."""

    def __init__(self, block: Fields) -> None:
        self._block = block

    def opened(self) -> Fields:
        """See Segment.opened."""
        return self._block

    def deltas(self) -> Iterator[Fields]:
        """See Segment.deltas."""
        return iter(())

    def is_complete(self) -> bool:
        """See Segment.is_complete."""
        return True

    def ending(self, cut: bool) -> Iterator[Fields]:
        """See Segment.ending."""
        return iter(())

    def block(self, cut: bool) -> Fields:
        """See Segment.block."""
        return self._block


class CallSegment:
    """A tool call. Its arguments are sent as they arrive if they begin an object; else they are sent at the end."""

    def __init__(self) -> None:
        self.is_new = True
        self.id = f"toolu_{uuid4().hex[:24]}"
        self.name = ""
        self.closed = False
        self._parts: list[str] = []
        self._sent = 0
        self._is_object: bool | None = None

    def add(self, arguments: str) -> None:
        """Add a part of the arguments. Raises ProviderBadResponse after a whole object."""
        if self.closed and arguments.strip():
            raise self._invalid()
        self._parts.append(arguments)

    def opened(self) -> Fields:
        """See Segment.opened."""
        return {"type": "tool_use", "id": self.id, "name": self.name, "input": {}}

    def deltas(self) -> Iterator[Fields]:
        """See Segment.deltas."""
        if self._is_object is None and (start := "".join(self._parts).lstrip()):
            self._is_object = start.startswith("{")
        if self._is_object and (part := "".join(self._parts[self._sent :])):
            if "\ud800" <= part[-1] <= "\udbff" and not self.closed:  # the other half of the emoji is in the next part
                return
            self._sent = len(self._parts)
            yield {"type": "input_json_delta", "partial_json": lenient_json.joined(part)}

    def is_complete(self) -> bool:
        """See Segment.is_complete."""
        return bool(self.name) and self._is_object is True and is_json_object("".join(self._parts))

    def ending(self, cut: bool) -> Iterator[Fields]:
        """See Segment.ending."""
        self.closed = True
        yield from self.deltas()
        text = self._input(cut)
        if not self._is_object:
            yield {"type": "input_json_delta", "partial_json": text}

    def block(self, cut: bool) -> Fields:
        """See Segment.block. The input keeps the digits of its numbers."""
        text = self._input(cut)
        given = orjson.Fragment(text) if is_json_object(text) else object_of_start(text)
        return {"type": "tool_use", "id": self.id, "name": self.name, "input": given}

    def _input(self, cut: bool) -> str:
        text = lenient_json.joined("".join(self._parts))
        if not self.name:
            raise errors.bad_response("a tool call has no name")
        if self._is_object:
            if not cut and not is_json_object(text):
                raise self._invalid()
            return text
        if text.strip() in _EMPTY:
            return "{}"
        inner = _inner_text(text)
        if inner is None or not is_json_object(inner):  # some models write the object as a JSON text
            if cut:
                return "{}"
            raise self._invalid()
        return inner

    def _invalid(self) -> Exception:
        return errors.bad_response(f"the arguments of the call '{self.name[:64]}' are not a JSON object")


_EMPTY = ("", "null", '""', "[]")


def _inner_text(text: str) -> str | None:
    try:
        value = lenient_json.loads(text.encode())
    except ValueError:
        return None
    return value if isinstance(value, str) else None


class Segments:
    """The segments of one response, in the order in which they began."""

    def __init__(self) -> None:
        self.all: list[Segment] = []
        self._calls = CallTable[CallSegment]()
        self.refused = False
        """Whether the model refused, with a text that says why."""

    @property
    def has_calls(self) -> bool:
        """Whether there is a tool call."""
        return len(self._calls) > 0

    def add(self, delta: Mapping[str, Any]) -> None:
        """Add a delta of a chunk, or the message of a whole response. Unexpected shapes are skipped."""
        self._add_reasoning(delta)
        content = delta.get("content")
        if isinstance(content, str):
            self._add_text(content)
        else:
            self._add_parts(content)
        if isinstance(delta.get("refusal"), str) and delta["refusal"]:
            self.refused = True
            self._add_text(delta["refusal"])
        for position, call in enumerate(calls_of(delta)):
            self._add_call(position, call)

    def _add_reasoning(self, delta: Mapping[str, Any]) -> None:
        """Add reasoning. A whole message has its text twice: joined, and in blocks or items with their signatures."""
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        blocks, items = _objects(delta.get("thinking_blocks")), _objects(delta.get("reasoning_items"))
        in_parts = len(items) > 1 or any(block.get("signature") or block.get("data") for block in blocks)
        if isinstance(reasoning, str) and reasoning and not in_parts:
            self._thinking().add(reasoning)
        for block in blocks:
            self._add_thinking_block(block, has_text=bool(reasoning) and not in_parts)
        for item in items:
            self._sign(carry_reasoning(item), _summary(item))

    def _add_text(self, text: str) -> None:
        if not text:
            return
        last = self.all[-1] if self.all else None
        if not isinstance(last, TextSegment):
            self.all.append(last := TextSegment())
        last.add(text)

    def _add_parts(self, content: object) -> None:
        """Add content in parts, as Mistral sends it."""
        for part in parts_of(content):
            if (text := text_of_part(part)) is not None:
                self._add_text(text)
            elif isinstance(part, dict) and part.get("type") == "thinking":
                thinking = part.get("thinking")
                for inner in [thinking] if isinstance(thinking, str) else parts_of(thinking):
                    if thought := text_of_part(inner):
                        self._thinking().add(thought)

    def _thinking(self) -> ThinkingSegment:
        """Return the thinking that is not signed yet; a new one if other content came since."""
        last = self.all[-1] if self.all else None
        if not isinstance(last, ThinkingSegment) or last.signature is not None:
            self.all.append(last := ThinkingSegment())
        return last

    def _add_thinking_block(self, block: Fields, *, has_text: bool) -> None:
        if block.get("type") != "thinking":
            self.all.append(WholeSegment(block))
            return
        text = block.get("thinking")
        text = text if isinstance(text, str) else ""
        if block.get("signature"):
            self._sign(str(block["signature"]), text)
        elif text and not has_text:  # a part of a block; its text may also be in reasoning_content
            self._thinking().add(text)

    def _sign(self, signature: str, text: str) -> None:
        """Sign the thinking that has arrived, or add it with its text if none has."""
        segment = self._thinking()
        if not segment.text and text:
            segment.add(text)
        segment.signature = signature

    def _add_call(self, position: int, call: Mapping[str, Any]) -> None:
        segment, function = self._calls.find(position, call, CallSegment), call.get("function")
        if segment.is_new:
            segment.is_new = False
            segment.id = _text(call.get("id")) or segment.id
            self.all.append(segment)
        if not isinstance(function, dict):
            return
        segment.name = segment.name or _text(function.get("name"))
        if arguments := arguments_of(function):
            segment.add(arguments)


def _objects(value: object) -> list[Fields]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _summary(item: Fields) -> str:
    texts = [part["text"] for part in _objects(item.get("summary")) if isinstance(part.get("text"), str)]
    return "\n\n".join(texts)
