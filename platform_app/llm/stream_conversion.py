"""Convert a whole chat response to the chunks of a stream, and chunks to a whole response.

Some servers always stream, and some never do, whatever the request says. Their response is valid, and a retry would get
the same, so it is converted.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from platform_app.llm.codecs import lenient_json
from platform_app.llm.finish_reasons import reason_of
from platform_app.llm.message_shapes import CallTable, arguments_of, delta_of
from platform_app.llm.responses import ChatChunk, ModelResponse

_FIELDS_BY_CHUNK = ("choices", "usage", "object")
_OF_CALLS = ("index", "function", "custom")
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")


def split_into_chunks(completion: ModelResponse) -> list[ChatChunk]:
    """Return the chunks of a stream with this response: one with the messages, one with the finish reasons, and one
    with the usage."""
    body = completion.body
    envelope = {name: value for name, value in body.items() if name not in _FIELDS_BY_CHUNK}
    envelope["object"] = "chat.completion.chunk"
    choices = [choice for choice in body["choices"] if isinstance(choice, dict)]
    chunks = [
        _chunk(envelope, [_choice(index, choice, _delta(choice), None) for index, choice in enumerate(choices)]),
        _chunk(envelope, [_choice(index, choice, {}, "finish_reason") for index, choice in enumerate(choices)]),
    ]
    if body.get("usage") is not None:
        last = _chunk({**envelope, "usage": body["usage"]}, [])
        chunks.append(ChatChunk(last.raw, last.body, completion.counted))
    return chunks


def assemble_response(chunks: Iterable[ChatChunk]) -> ModelResponse | None:
    """Return the whole response of these chunks; None if they have no choices."""
    envelope: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    usage: object = None
    counted: Mapping[str, Any] | None = None
    for chunk in chunks:
        body = chunk.body
        counted = chunk.counted or counted
        usage = body.get("usage") or usage
        for name, value in body.items():
            if name not in _FIELDS_BY_CHUNK and value and name not in envelope:
                envelope[name] = value
        listed = body.get("choices")
        for choice in listed if isinstance(listed, list) else ():
            if isinstance(choice, dict):
                number = choice.get("index")
                index = number if isinstance(number, int) else 0
                choices.setdefault(index, _Choice(index)).add(choice)
    if not choices:
        return None
    made: dict[str, Any] = {**envelope, "object": "chat.completion"}
    made["choices"] = [choices[index].whole() for index in sorted(choices)]
    if usage is not None:
        made["usage"] = usage
    return ModelResponse(lenient_json.dumps(made), made, counted)


class _Choice:
    """Collects the deltas of one choice. Texts are joined once, at the end."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._texts: dict[str, list[str]] = {}
        self._others: dict[str, Any] = {}
        self._calls = CallTable[_ToolCall]()
        self._logprobs: list[Any] = []
        self._reason: object = None
        self._usage: object = None

    def add(self, choice: Mapping[str, Any]) -> None:
        """Add the delta of one chunk."""
        self._reason = choice["finish_reason"] if reason_of(choice) else self._reason
        self._usage = choice.get("usage") or self._usage
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            self._logprobs += logprobs["content"]
        for name, value in delta_of(choice).items():
            if name == "tool_calls":
                self._add_calls(value)
            elif name in _TEXTS and isinstance(value, str):
                self._texts.setdefault(name, []).append(value)
            elif isinstance(value, list) and isinstance(self._others.get(name), list):
                self._others[name] = self._others[name] + value
            elif value is not None:
                self._others[name] = value

    def whole(self) -> dict[str, Any]:
        """Return the choice of a whole response."""
        texts = {name: "".join(parts) for name, parts in self._texts.items()}
        message: dict[str, Any] = {"role": "assistant", "content": None, **self._others}
        message |= {name: text for name, text in texts.items() if text or name == "content"}
        if self._calls:
            message["tool_calls"] = [call.whole() for call in self._calls]
            message["content"] = message["content"] or None
        logprobs = {"content": self._logprobs} if self._logprobs else None
        whole = {"index": self._index, "message": message, "logprobs": logprobs, "finish_reason": self._reason}
        return whole if self._usage is None else {**whole, "usage": self._usage}  # Moonshot counts there

    def _add_calls(self, calls: object) -> None:
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                self._calls.find(position, call, _ToolCall).add(call)


class _ToolCall:
    """Collects the parts of one tool call."""

    def __init__(self) -> None:
        self._call: dict[str, Any] = {"id": None, "type": "function"}
        self._name = ""
        self._arguments: list[str] = []
        self._custom = False

    def add(self, call: Mapping[str, Any]) -> None:
        """Add the delta of one chunk."""
        self._call |= {name: value for name, value in call.items() if value and name not in _OF_CALLS}
        self._custom = self._custom or "custom" in call
        function = call.get("custom") if self._custom else call.get("function")
        if isinstance(function, dict):
            name = function.get("name")
            self._name = name if isinstance(name, str) and name else self._name
            self._arguments.append(arguments_of(function, "input" if self._custom else "arguments"))

    def whole(self) -> dict[str, Any]:
        """Return the tool call of a whole message."""
        text = "".join(self._arguments)
        if self._custom:
            return {**self._call, "type": "custom", "custom": {"name": self._name, "input": text}}
        return {**self._call, "function": {"name": self._name, "arguments": text}}


def _chunk(envelope: Mapping[str, Any], choices: list[dict[str, Any]]) -> ChatChunk:
    body = {**envelope, "choices": choices}
    return ChatChunk(lenient_json.dumps(body), body)


def _choice(index: int, choice: Mapping[str, Any], delta: dict[str, Any], end: str | None) -> dict[str, Any]:
    number = choice.get("index")
    made = {
        "index": number if isinstance(number, int) else index,
        "delta": delta,
        "logprobs": None if end else choice.get("logprobs"),
        "finish_reason": choice.get(end) if end else None,
    }
    return {**made, "usage": choice["usage"]} if end and choice.get("usage") else made


def _delta(choice: Mapping[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    delta = dict(message) if isinstance(message, dict) else {}
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        delta["tool_calls"] = [{"index": i, **call} for i, call in enumerate(calls) if isinstance(call, dict)]
    return delta
