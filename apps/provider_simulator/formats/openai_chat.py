"""The simulated model's responses in OpenAI's wire format. No sockets, no clocks."""

import base64
import hashlib
from collections.abc import Iterator, Mapping

import orjson

from apps.provider_simulator.model.prefix_cache import cached_tokens
from apps.provider_simulator.model.simulated_model import (
    Choice,
    JsonObject,
    ToolCall,
    choices_of,
    count_tokens,
    messages_of,
    pieces,
    text_of,
)

SYSTEM_FINGERPRINT = "fp_simulator"
SEEDED_CREATED = 1_735_689_600  # 2025-01-01
DONE_EVENT = b"data: [DONE]\n\n"


def sse_event(payload: object) -> bytes:
    """One server-sent event with a JSON payload."""
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def label_of(body: Mapping[str, object], serial: int) -> str:
    """Return the source of ids: the request's number or, with a `seed`, a digest of seed and messages."""
    if body.get("seed") is None:
        return f"sim{serial:012d}"
    return "sim" + hashlib.sha256(orjson.dumps([body["seed"], body.get("messages")])).hexdigest()[:12]


class ChatAnswer:
    """Return the response to one chat completion request.

    A model `cached-…` counts the tokens of the messages at the beginning that it has had before as cached. Of another
    model, half of the prompt counts as cached if there is a `prompt_cache_key`. With a `seed`, equal requests get equal
    responses; without it, `id`, `created` and the ids of tool calls differ.

    Raises:
        InvalidRequestError: messages are missing, or a field is malformed.
    """

    before_text = 0
    after_text = 3

    def __init__(self, body: Mapping[str, object], serial: int, created: int) -> None:
        messages = messages_of(body)
        self._label = label_of(body, serial)
        self._created = created if body.get("seed") is None else SEEDED_CREATED
        self._model = str(body["model"])
        self._logprobs = body.get("logprobs") is True
        options = body.get("stream_options")
        self._include_usage = isinstance(options, dict) and options.get("include_usage") is True
        counts = [count_tokens(text_of(message)) for message in messages]
        self._prompt_tokens = sum(counts)
        self._cached_tokens = self._prompt_tokens // 2 if isinstance(body.get("prompt_cache_key"), str) else 0
        if (cached := cached_tokens(self._model, messages, counts)) is not None:
            self._cached_tokens = cached
        self._choices = choices_of(body, self._label)
        modalities = body.get("modalities")
        self._speaks = isinstance(modalities, list) and "audio" in modalities

    def json(self) -> bytes:
        """The `chat.completion` object."""
        choices = [
            {
                "index": index,
                "message": _message(choice, speaks=self._speaks),
                "logprobs": self._logprobs_of(choice.text),
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(self._choices)
        ]
        return orjson.dumps({**self._envelope("chat.completion"), "choices": choices, "usage": self._usage()})

    def events(self) -> list[bytes]:
        """The `chat.completion.chunk` events of the stream."""
        envelope = self._envelope("chat.completion.chunk")
        if self._include_usage:
            # With the option on, OpenAI's other chunks carry the field too, as null.
            envelope["usage"] = None
        events = []
        for index, choice in enumerate(self._choices):
            for delta, reason in _deltas(choice):
                part = {
                    "index": index,
                    "delta": delta,
                    "logprobs": self._logprobs_of(delta.get("content")),
                    "finish_reason": reason,
                }
                events.append(sse_event({**envelope, "choices": [part]}))
        if self._include_usage:
            events.append(sse_event({**envelope, "choices": [], "usage": self._usage()}))
        events.append(DONE_EVENT)
        return events

    def _envelope(self, kind: str) -> JsonObject:
        return {
            "id": f"chatcmpl-{self._label}",
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": SYSTEM_FINGERPRINT,
            "service_tier": "default",
        }

    def _usage(self) -> JsonObject:
        completion = sum(choice.tokens for choice in self._choices)
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self._prompt_tokens + completion,
            "prompt_tokens_details": {"cached_tokens": self._cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": sum(count_tokens(choice.reasoning) for choice in self._choices),
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def _logprobs_of(self, text: object) -> JsonObject | None:
        if not self._logprobs or not isinstance(text, str) or not text:
            return None
        tokens = [
            {"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []}
            for token in pieces(text)
        ]
        return {"content": tokens, "refusal": None}


def _message(choice: Choice, *, speaks: bool) -> JsonObject:
    silent = choice.tool_calls or choice.refusal or speaks
    message: JsonObject = {
        "role": "assistant",
        "content": (choice.text or None) if choice.tool_calls else None if silent else _content(choice.text),
        "refusal": choice.refusal or None,
        "annotations": [],
    }
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning  # as DeepSeek's, vLLM's and others' servers call it
    if speaks:
        sound = base64.b64encode(choice.text.encode()).decode()
        message["audio"] = {"id": "audio_sim", "data": sound, "expires_at": 1, "transcript": choice.text}
    if choice.tool_calls:
        message["tool_calls"] = [{"id": call.id, **_called(call, call.arguments)} for call in choice.tool_calls]
    return message


def _in_parts(text: str) -> bool:
    return text.startswith("You said: parts:")


def _content(text: str) -> object:
    """Return a list of parts for a message that begins with `parts:`, as Mistral's reasoning models send it."""
    if not _in_parts(text):
        return text
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "They want parts."}]}
    return [thought, *({"type": "text", "text": piece} for piece in pieces(text))]


def _deltas(choice: Choice) -> Iterator[tuple[JsonObject, str | None]]:
    """Return the deltas of one choice, the last with the finish reason."""
    yield {"role": "assistant", "content": None if choice.tool_calls else "", "refusal": None}, None
    for name, text in (("reasoning_content", choice.reasoning), ("content", choice.text), ("refusal", choice.refusal)):
        for piece in pieces(text):
            yield {name: [{"type": "text", "text": piece}] if _in_parts(choice.text) else piece}, None
    for index, call in enumerate(choice.tool_calls):
        yield {"tool_calls": [{"index": index, "id": call.id, **_called(call, "")}]}, None
        for piece in pieces(call.arguments):
            added = {"custom": {"input": piece}} if call.custom else {"function": {"arguments": piece}}
            yield {"tool_calls": [{"index": index, **added}]}, None
    yield {}, choice.finish_reason


def _called(call: ToolCall, text: str) -> JsonObject:
    """Return the type of a tool call, and its name with this text as its arguments."""
    if call.custom:
        return {"type": "custom", "custom": {"name": call.name, "input": text}}
    return {"type": "function", "function": {"name": call.name, "arguments": text}}
