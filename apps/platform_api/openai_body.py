"""What an OpenAI client sends: checked only as far as the gateway must understand it, and forwarded as it is.

Unlike the platform's own contract this one is OpenAI's to define: fields that did not exist when this was written pass.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request

from apps.platform_api.body import require_json
from apps.platform_api.dependencies import body_of
from apps.platform_api.json_fields import (
    TOO_LONG,
    fields_with,
    has_long_integer,
    is_beyond_64_bits,
    is_half_a_surrogate_pair,
)
from platform_app.errors import InvalidRequest
from platform_app.llm.calls import ModelRequest, Operation

MAX_MODEL_NAME = 256
MAX_DEPTH = 254
"""Of objects and lists inside each other: as deep as the body could be written again."""


@dataclass(frozen=True, slots=True)
class OpenAIBody:
    """A request in OpenAI's shape."""

    request: ModelRequest
    wants_usage: bool
    """Whether the client asked for the last chunk that counts the tokens."""


def openai_body(operation: Operation) -> Callable[[Request], Awaitable[OpenAIBody]]:
    """A dependency that reads the body of this operation.

    Raises (from the dependency):
        UnsupportedMediaType: the body is not declared as JSON.
        InvalidRequest: it is no JSON object, or a field that the gateway reads is wrong; `param` names it.
    """

    async def read(request: Request) -> OpenAIBody:
        require_json(request)
        return parse_openai_body(await body_of(request), operation)

    return read


def parse_openai_body(raw: bytes, operation: Operation) -> OpenAIBody:
    """See openai_body."""
    body = _object(raw)
    model, stream = body.pop("model", None), body.pop("stream", None)
    if model is not None and (not isinstance(model, str) or not 1 <= len(model) <= MAX_MODEL_NAME):
        raise _wrong("model", f"expected a text of 1 to {MAX_MODEL_NAME} characters")
    if stream is not None and not isinstance(stream, bool):
        raise _wrong("stream", "expected true or false")
    wants_usage = False
    if operation is Operation.CHAT:
        _check_messages(body.get("messages"))
        wants_usage = _wants_usage(body, bool(stream))
    else:
        _check_input(body)
        if stream:
            raise _wrong("stream", "embeddings are not streamed; leave it out")
    return OpenAIBody(ModelRequest(model, body, operation, bool(stream)), wants_usage)


def _object(raw: bytes) -> dict[str, Any]:
    """The body, of which every value can be sent on as it is: whole numbers of more than 64 bits would lose digits."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        for field in fields_with(is_half_a_surrogate_pair, raw):
            raise _wrong(field, "half of a surrogate pair is not text") from None
        raise InvalidRequest(f"The body is not valid JSON: {error.msg} (character {error.pos}).") from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    if has_long_integer(raw):
        for field in fields_with(is_beyond_64_bits, raw):
            raise _wrong(field, TOO_LONG)
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
        _require_writable(body)
    return body


def _require_writable(body: dict[str, Any]) -> None:
    try:
        orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.") from None


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "expected a list of at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise _wrong(f"messages[{index}]", "expected an object with a role")


def _check_input(body: dict[str, Any]) -> None:
    given = body.get("input")
    if not isinstance(given, str | list) or not given:
        raise _wrong("input", "expected a text, or a list of texts or of tokens, that is not empty")


def _wants_usage(body: dict[str, Any], stream: bool) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise _wrong("stream_options", "expected an object")
    if not stream:
        raise _wrong("stream_options", 'is only for requests with "stream": true')
    return options.get("include_usage") is True


def _wrong(param: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: {what}.", param=param)
