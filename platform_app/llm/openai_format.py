"""OpenAI's wire format (https://platform.openai.com/docs/api-reference/chat), wherever it is spoken.

Requests and answers pass as they are: fields that nobody here has heard of too.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from platform_app.llm import openai_errors
from platform_app.llm import provider_errors as errors
from platform_app.llm.answers import ChatChunk, Completion
from platform_app.llm.base import Answer
from platform_app.llm.calls import Operation, UpstreamCall
from platform_app.llm.event_chunks import open_stream
from platform_app.llm.provider_http import ProviderHttp

_DONE = b"[DONE]"
PATHS: Mapping[Operation, str] = {Operation.CHAT: "chat/completions", Operation.EMBEDDINGS: "embeddings"}
"""Where each operation is, below the API's root."""


async def send_openai(
    http: ProviderHttp, url: str, headers: Mapping[str, str], call: UpstreamCall, body: Mapping[str, Any]
) -> Answer:
    """See ModelAdapter.send. `body` is the call's, with what the provider wants besides."""
    if call.stream and call.operation is Operation.CHAT:
        body = {**body, "stream": True, "stream_options": _options(body)}
        response = await http.post(url, headers, body, call.timeout_seconds)
        return await open_stream(response, ChunkReader())
    response = await http.post(url, headers, body, call.timeout_seconds)
    raw = await response.read_json()
    return read_completion(raw) if call.operation is Operation.CHAT else read_embeddings(raw)


def read_completion(raw: bytes) -> Completion:
    """A chat completion. Raises ProviderFailed where it is none."""
    body = _object(raw)
    choices = body.get("choices")
    if isinstance(choices, list) and choices and all(_has_message(choice) for choice in choices):
        return Completion(raw, body)
    if body.get("error"):
        raise openai_errors.error_from_event(body["error"])
    raise errors.bad_response("the answer is not a chat completion")


def read_embeddings(raw: bytes) -> Completion:
    """An embeddings answer. Raises ProviderFailed where it is none."""
    body = _object(raw)
    if isinstance(body.get("data"), list) and body["data"]:
        return Completion(raw, body)
    if body.get("error"):
        raise openai_errors.error_from_event(body["error"])
    raise errors.bad_response("the answer holds no embeddings")


class ChunkReader:
    """Reads `chat.completion.chunk` events; see EventReader."""

    __slots__ = ("_finished", "_started", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._started = False
        self._finished = False

    def read(self, data: bytes) -> ChatChunk | None:
        """See EventReader.read."""
        if data == _DONE:
            if not self._started:
                raise errors.bad_response("the stream ended without an answer")
            self.complete = True
            return None
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise errors.bad_response("an event of the stream is not valid JSON") from None
        if not isinstance(body, dict):
            raise errors.bad_response("an event of the stream is not an object")
        if body.get("error"):
            raise openai_errors.error_from_event(body["error"])
        choices = body.get("choices")
        if not isinstance(choices, list):
            raise errors.bad_response("an event of the stream is not a piece of a chat completion")
        if choices:
            self._started = True
            if not self._finished:
                self._finished = any(isinstance(choice, dict) and choice.get("finish_reason") for choice in choices)
        return ChatChunk(data, body)

    def at_end(self) -> None:
        """See EventReader.at_end. Some servers end without [DONE], but none without a finish_reason."""
        if not self._finished:
            raise errors.bad_response("the stream ended before the answer was complete")


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's own stream_options, and always the usage: it is what calls are charged by."""
    options = body.get("stream_options")
    return {**options, "include_usage": True} if isinstance(options, dict) else {"include_usage": True}


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise errors.bad_response("the answer is not valid JSON") from None
    if not isinstance(body, dict):
        raise errors.bad_response("the answer is not an object")
    return body


def _has_message(choice: object) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("message"), dict)
