"""A response of the simulated model in the Responses format: the object and its events. No sockets, no clocks."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import orjson

from apps.provider_simulator.formats.responses.request import ENCRYPTED, read_request
from apps.provider_simulator.formats.responses.store import ResponseStore
from apps.provider_simulator.formats.responses.wire import event
from apps.provider_simulator.model.prefix_cache import cached_tokens
from apps.provider_simulator.model.simulated_model import (
    InvalidRequestError,
    JsonObject,
    choices_of,
    count_tokens,
    messages_of,
    pieces,
    text_of,
)

_ECHOED: Mapping[str, object] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""Fields of the request that the response repeats, with their defaults."""
_OWN_NAMES = {"max_tokens": "max_output_tokens", "messages": "input", "response_format": "text.format"}
"""The names of Responses, by those of chats, which the model reads."""


def _renamed(error: InvalidRequestError) -> InvalidRequestError:
    """Return the error with the name that the field has in Responses."""
    name = str(error.param)
    own = _OWN_NAMES.get(name, name)
    return InvalidRequestError(error.message.replace(f"'{name}", f"'{own}"), own)


Numbered = Callable[[str, JsonObject], bytes]
"""Writes an event of a type with the next sequence number."""


class ResponsesAnswer:
    """Return the response to one request; see `choices_of` for how a message steers it.

    With a reasoning effort the output begins with a reasoning item: with a summary if the request asks for one, and
    with encrypted content if it includes `reasoning.encrypted_content`. With a `prompt_cache_key`, half of the input
    counts as cached; a model `cached-…` counts what it has had before. Unless `store` is false the response is stored.

    Raises:
        InvalidRequestError: OpenAI would refuse the request, for example because of an unknown field.
    """

    def __init__(self, body: Mapping[str, object], serial: int, created: int, store: ResponseStore) -> None:
        asked = read_request(body, store)
        self._label = f"sim{serial:012d}"
        try:
            self._choice = choices_of(asked.chat, self._label)[0]
        except InvalidRequestError as error:
            raise _renamed(error) from None
        self._custom = asked.custom
        reasoning = body.get("reasoning")
        self._reasoning: JsonObject = {"effort": None, "summary": None}
        self._reasoning |= reasoning if isinstance(reasoning, dict) else {}
        include = body.get("include")
        self._include: Sequence[object] = include if isinstance(include, list) else ()
        messages = messages_of(asked.chat)
        counts = [count_tokens(text_of(message)) for message in messages]
        self._input_tokens = sum(counts)
        self._cached = self._input_tokens // 2 if isinstance(body.get("prompt_cache_key"), str) else 0
        if (cached := cached_tokens(str(body["model"]), messages, counts)) is not None:
            self._cached = cached
        self._body = body
        self._created = created
        self._output = list(self._items())
        if body.get("store") is not False:
            store.add(self._response(), [*asked.items, *self._output])
        self._events = list(self._written())

    @property
    def before_text(self) -> int:
        """Implement `Answer.before_text`."""
        return self._deltas()[0]

    @property
    def after_text(self) -> int:
        """Implement `Answer.after_text`."""
        return len(self._events) - self._deltas()[-1]

    def json(self) -> bytes:
        """The `response` object."""
        return orjson.dumps(self._response())

    def events(self) -> list[bytes]:
        """The events from `response.created` to `response.completed` or `response.incomplete`."""
        return list(self._events)

    def _deltas(self) -> list[int]:
        return [at for at, each in enumerate(self._events) if b'"delta":' in each] or [len(self._events) - 1]

    def _response(self) -> JsonObject:
        cut = self._choice.finish_reason == "length"
        return {
            **self._begun(),
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "completed_at": None if cut else self._created,
            "output": self._output,
            "usage": self._usage(),
        }

    def _begun(self) -> JsonObject:
        """Return the response before there is any output."""
        given = {name: self._body.get(name) for name in _ECHOED}
        echoed = {name: default if given[name] is None else given[name] for name, default in _ECHOED.items()}
        text = self._body.get("text")
        return {
            "id": f"resp_{self._label}",
            "object": "response",
            "created_at": self._created,
            "model": str(self._body["model"]),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "output": [],
            "reasoning": self._reasoning,
            "text": {"format": {"type": "text"}, "verbosity": "medium", **(text if isinstance(text, dict) else {})},
            "usage": None,
            **echoed,
        }

    def _usage(self) -> JsonObject:
        made = self._choice.tokens
        return {
            "input_tokens": self._input_tokens,
            "input_tokens_details": {"cached_tokens": self._cached, "cache_write_tokens": 0},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": count_tokens(self._choice.reasoning)},
            "total_tokens": self._input_tokens + made,
        }

    def _items(self) -> Iterator[JsonObject]:
        choice, label = self._choice, self._label
        if choice.reasoning:
            yield self._reasoning_item()
        if choice.text or choice.refusal or not choice.tool_calls:
            status = "incomplete" if choice.finish_reason == "length" else "completed"
            yield {
                "id": f"msg_{label}", "type": "message", "role": "assistant", "status": status,
                "content": [self._part()],
            }  # fmt: skip
        for index, call in enumerate(choice.tool_calls):
            made: JsonObject = {"id": f"fc_{label}_{index}", "status": "completed", "call_id": call.id}
            if call.name in self._custom:
                text = f"input of {call.name}" if call.arguments == "{}" else call.arguments  # a script's text
                yield {**made, "type": "custom_tool_call", "name": call.name, "input": text}
            else:
                yield {**made, "type": "function_call", "name": call.name, "arguments": call.arguments}

    def _reasoning_item(self) -> JsonObject:
        text = self._choice.reasoning
        summary = [{"type": "summary_text", "text": text}] if self._reasoning["summary"] else []
        item: JsonObject = {"id": f"rs_{self._label}", "type": "reasoning", "summary": summary}
        if "reasoning.encrypted_content" in self._include:
            item["encrypted_content"] = f"{ENCRYPTED}{self._label}"
        return item

    def _part(self) -> JsonObject:
        if self._choice.refusal:
            return {"type": "refusal", "refusal": self._choice.refusal}
        text = self._choice.text
        return {"type": "output_text", "annotations": [], "logprobs": self._logprobs(text), "text": text}

    def _logprobs(self, text: str) -> list[JsonObject]:
        if "message.output_text.logprobs" not in self._include:
            return []
        return [
            {"token": token, "bytes": list(token.encode()), "logprob": -0.5, "top_logprobs": []}
            for token in pieces(text)
        ]

    def _written(self) -> Iterator[bytes]:
        count = 0

        def numbered(kind: str, payload: JsonObject) -> bytes:
            nonlocal count
            count += 1
            return event({"type": kind, **payload}, count - 1)

        yield numbered("response.created", {"response": self._begun()})
        yield numbered("response.in_progress", {"response": self._begun()})
        for index, item in enumerate(self._output):
            place: JsonObject = {"output_index": index}
            yield numbered("response.output_item.added", {**place, "item": _empty(item)})
            yield from self._inside(item, {"item_id": item["id"], **place}, numbered)
            yield numbered("response.output_item.done", {**place, "item": item})
        ended = self._response()
        yield numbered(f"response.{ended['status']}", {"response": ended})

    def _inside(self, item: JsonObject, place: JsonObject, numbered: Numbered) -> Iterator[bytes]:
        match item:
            case {"type": "reasoning", "summary": list(summary)}:
                for index, part in enumerate(summary):
                    at = {**place, "summary_index": index}
                    yield numbered("response.reasoning_summary_part.added", {**at, "part": {**part, "text": ""}})
                    yield from _deltas("response.reasoning_summary_text", "text", part["text"], at, numbered)
                    yield numbered("response.reasoning_summary_part.done", {**at, "part": part})
            case {"type": "message", "content": [dict(part)]}:
                at = {**place, "content_index": 0}
                field = "refusal" if part["type"] == "refusal" else "text"
                kind = "response.refusal" if field == "refusal" else "response.output_text"
                more: JsonObject = {} if field == "refusal" else {"logprobs": []}
                yield numbered("response.content_part.added", {**at, "part": {**part, field: "", **more}})
                probabilities = None if field == "refusal" else self._logprobs
                yield from _deltas(kind, field, str(part[field]), at, numbered, probabilities)
                yield numbered("response.content_part.done", {**at, "part": part})
            case {"type": "function_call", "arguments": str(arguments)}:
                yield from _deltas("response.function_call_arguments", "arguments", arguments, place, numbered)
            case {"type": "custom_tool_call", "input": str(text)}:
                yield from _deltas("response.custom_tool_call_input", "input", text, place, numbered)


def _deltas(
    kind: str,
    field: str,
    text: str,
    place: JsonObject,
    numbered: Numbered,
    logprobs: Callable[[str], list[JsonObject]] | None = None,
) -> Iterator[bytes]:
    """Yield the deltas of a text, and the event with the whole text."""
    for piece in pieces(text):
        more: JsonObject = {} if logprobs is None else {"logprobs": logprobs(piece)}
        yield numbered(f"{kind}.delta", {**place, "delta": piece, **more})
    yield numbered(f"{kind}.done", {**place, field: text, **({} if logprobs is None else {"logprobs": logprobs(text)})})


def _empty(item: JsonObject) -> JsonObject:
    """Return an item as it is when it is added."""
    emptied = {"content": [], "summary": [], "arguments": "", "input": ""}
    status = {} if item["type"] == "reasoning" else {"status": "in_progress"}
    return {**item, **{name: value for name, value in emptied.items() if name in item}, **status}
