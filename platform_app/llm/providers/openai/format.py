"""OpenAI's wire format (https://platform.openai.com/docs/api-reference/chat), for every server that speaks it.

Requests and responses pass unchanged, unknown fields included.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import orjson

from platform_app.errors import ContentFiltered, PlatformError
from platform_app.llm import errors
from platform_app.llm.codecs import lenient_json
from platform_app.llm.finish_reasons import LENGTH, kind_of_end, reason_of
from platform_app.llm.http.client import ProviderHttp
from platform_app.llm.http.event_stream import ResponseReader, open_stream, read_whole
from platform_app.llm.interfaces import UpstreamResponse
from platform_app.llm.providers.content_filter import is_filtered
from platform_app.llm.providers.error_body import is_error_body, is_error_list
from platform_app.llm.providers.json_reading import OddEvents, parse_response
from platform_app.llm.providers.openai.errors import error_from_event
from platform_app.llm.providers.tools.names import NO_NAMES, ToolNames
from platform_app.llm.requests import Operation, UpstreamCall
from platform_app.llm.responses import ChatChunk, ModelResponse

_DONE = b"[DONE]"
_WITH_CONTENT = ("message", "text", "delta", "content", "error")
"""Members of a choice that have content, also those of other APIs."""
PATHS: Mapping[Operation, str] = {Operation.CHAT: "chat/completions", Operation.EMBEDDINGS: "embeddings"}
"""The path of each operation, below the API's root."""


async def send_openai(
    http: ProviderHttp,
    url: str,
    headers: Mapping[str, str],
    call: UpstreamCall,
    body: Mapping[str, Any],
    names: ToolNames = NO_NAMES,
) -> UpstreamResponse:
    """See ModelAdapter.send. `body` is the call's body, with the fields that the provider needs in addition; `names`
    are the tools' names in it that are not the client's."""
    if call.stream and call.operation is Operation.CHAT:
        body = {**body, "stream": True, "stream_options": _options(body)}
        response = await http.post(url, headers, body, call.timeout_seconds, call.record)
        return await open_stream(response, names.reader(READER))
    response = await http.post(url, headers, body, call.timeout_seconds, call.record)
    if call.operation is Operation.CHAT:
        return await read_whole(response, names.reader(READER))
    return read_embeddings(await response.read_body())


def read_response(raw: bytes) -> ModelResponse:
    """Parse a chat completion. Raises ProviderFailed if it is not one, and ContentFiltered if its content was
    filtered."""
    body, raw = _object(raw)
    choices = body.get("choices")
    if isinstance(choices, list) and choices and not body.get("error"):
        if all(_has_message(choice) for choice in choices):
            return ModelResponse(raw, body)
        if all(_has_message(choice) or _is_empty(choice) for choice in choices):
            return _with_messages(body)
    if is_error_body(body):
        raise error_from_event(body)
    listed = choices if isinstance(choices, list) else []
    _raise_choice_error(listed)
    if is_filtered(body):
        if any(_has_message(choice) for choice in listed):
            return ModelResponse(raw, body)
        raise _filtered()
    raise errors.bad_response("the response is not a chat completion")


def read_embeddings(raw: bytes) -> ModelResponse:
    """Parse an embeddings response. Raises ProviderFailed if it is not one."""
    body, raw = _object(raw)
    if isinstance(body.get("data"), list) and body["data"]:
        return ModelResponse(raw, body)
    if is_error_body(body):
        raise error_from_event(body)
    raise errors.bad_response("the response has no embeddings")


class OpenAIEventDecoder:
    """Decodes `chat.completion.chunk` events; see EventDecoder.

    Chunks pass unchanged, also those without choices. Events that are not objects have no content and are skipped:
    empty events, `null`, texts of proxies. An object that is not valid JSON is an error, since content may be lost.
    """

    trailing: ClassVar[None] = None
    """The last event has the last chunk."""
    __slots__ = ("_filtered", "_finished", "_odd", "_started", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._started = False
        self._finished = False
        self._filtered = False
        self._odd = OddEvents()

    def decode(self, data: bytes) -> ChatChunk | None:
        """See EventDecoder.decode."""
        if data == _DONE:
            return self._done()
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            return self._read_odd(data.strip())
        if self._finished or not self._started or not isinstance(body, dict):
            return self._chunk(data, body)
        # Fast path for nearly every chunk: more content of a response in progress.
        choices = body.get("choices")
        if not choices or not isinstance(choices, list) or "error" in body or len(choices) != 1:
            return self._chunk(data, body)
        choice = choices[0]
        if not isinstance(choice, dict) or choice.get("finish_reason") or "error" in choice:
            return self._chunk(data, body)
        return ChatChunk(data, body)

    def finish(self) -> None:
        """See EventDecoder.finish. Some servers omit [DONE], but none omits the finish_reason."""
        if not self._finished:
            raise self._failure("the stream ended before the response was complete")

    def _chunk(self, data: bytes, body: Any) -> ChatChunk | None:
        if not isinstance(body, dict):
            return self._no_object(body)
        choices = body.get("choices")
        if choices and isinstance(choices, list):
            if body.get("error"):
                raise error_from_event(body)
            self._started = True
            if not self._finished:
                _raise_choice_error(choices)
                self._finished = any(isinstance(each, dict) and reason_of(each) for each in choices)
            return ChatChunk(data, body)
        if is_error_body(body):
            raise error_from_event(body)
        self._filtered = self._filtered or is_filtered(body)
        return ChatChunk(data, body) if body else None

    def _done(self) -> ChatChunk | None:
        if not self._started:
            raise self._failure("the stream ended without a response")
        if not self._finished and self._odd.text:
            raise self._failure("the stream ended with an error before the response was complete")
        self.complete = True
        return None

    def _read_odd(self, text: bytes) -> ChatChunk | None:
        if text.startswith(_DONE):
            return self._done()
        body = self._odd.read(text)
        return None if body is None else self._chunk(lenient_json.sendable(text), body)

    def _no_object(self, body: object) -> ChatChunk | None:
        if is_error_list(body):
            raise error_from_event(body)
        if body == "[DONE]":
            return self._done()
        if isinstance(body, str):
            self._odd.skip(body.encode("utf-8", "replace"))
        return None

    def _failure(self, why: str) -> PlatformError:
        """Return the error for a stream that ends here. A filter that removes everything ends a stream this way."""
        return _filtered() if self._filtered else self._odd.incomplete(why)


READER = ResponseReader(read_response, OpenAIEventDecoder)


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the caller's stream_options plus the usage, which is needed to charge the call."""
    options = body.get("stream_options")
    return {**options, "include_usage": True} if isinstance(options, dict) else {"include_usage": True}


def _object(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """Parse a body that must be an object, and return it with the bytes to pass on."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body, raw = parse_response(raw), lenient_json.sendable(raw)
    if is_error_list(body):
        raise error_from_event(body)
    if not isinstance(body, dict):
        raise errors.bad_response("the response is not an object")
    return body, raw


def _has_message(choice: object) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("message"), dict) and not _failed(choice)


def _is_empty(choice: object) -> bool:
    """Return whether a choice without a message ended because of the request: the model stopped at once, or reached
    its limit before any content. It shows nothing about the provider's health."""
    if not isinstance(choice, dict) or any(choice.get(name) is not None for name in _WITH_CONTENT):
        return False
    reason = reason_of(choice)
    return reason == "stop" or kind_of_end(reason) == LENGTH


def _with_messages(body: Mapping[str, Any]) -> ModelResponse:
    """Return the response with an empty message in each choice that has none."""
    empty = {"role": "assistant", "content": ""}
    choices = [choice if _has_message(choice) else {**choice, "message": empty} for choice in body["choices"]]
    made = {**body, "choices": choices}
    return ModelResponse(lenient_json.dumps(made), made)


def _failed(choice: Mapping[str, Any]) -> bool:
    return choice.get("finish_reason") == "error" or bool(choice.get("error"))


def _raise_choice_error(choices: list[Any]) -> None:
    """Raise the error in a choice, where OpenRouter puts a failure of its provider."""
    for choice in choices:
        if isinstance(choice, dict) and _failed(choice):
            raise error_from_event(choice.get("error") or {})


def _filtered() -> PlatformError:
    return errors.make_error(ContentFiltered, "the provider returned no content (finish_reason: content_filter)")
