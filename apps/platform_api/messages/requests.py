"""Read a Messages request. Only the parts that the gateway uses are checked; the body is forwarded unchanged.

Unknown fields pass, except for those that could choose another model, provider, address or price
(platform_app/llm/providers/anthropic/request_fields.py).
"""

import re
from collections.abc import Mapping
from typing import Any

from fastapi import Request

from apps.platform_api.http.body.json_body import require_json
from apps.platform_api.http.body.json_text import TextFacts, parse_json
from apps.platform_api.http.request_state import body_facts_of, body_of
from platform_app.errors import InvalidRequest, ValidationFailed
from platform_app.llm.formats import ApiFormat
from platform_app.llm.providers.anthropic.request_fields import extra_fields
from platform_app.llm.requests import ModelRequest, Operation

MAX_MODEL_NAME = 256
FORMAT_HEADERS = (b"anthropic-version", b"anthropic-beta")
"""The only headers of a client that reach a provider. Only a provider that speaks Messages gets them."""
_VALUE = re.compile(rb"[\x20-\x7e\t]*")


async def read_messages_body(request: Request, operation: Operation = Operation.CHAT) -> ModelRequest:
    """Return the request, after the checks of the parts that the gateway uses.

    Raises:
        UnsupportedMediaType: the body is not declared as JSON.
        InvalidRequest: the body is not a JSON object, or a field or header that the gateway reads is wrong.
    """
    require_json(request)
    headers = request.scope["headers"]
    raw = await body_of(request)
    return parse_messages_body(raw, operation, body_facts_of(request), format_headers(headers))


def parse_messages_body(
    raw: bytes,
    operation: Operation = Operation.CHAT,
    facts: TextFacts | None = None,
    headers: Mapping[str, str] | None = None,
) -> ModelRequest:
    """Return the raw body as a request; see read_messages_body for the errors and parse_json for `facts`."""
    body = _object(raw, facts)
    model, stream = body.pop("model", None), body.pop("stream", None)
    if model is not None and (not isinstance(model, str) or not 1 <= len(model) <= MAX_MODEL_NAME):
        raise _wrong("model", f"expected a text of 1 to {MAX_MODEL_NAME} characters")
    if stream is not None and not isinstance(stream, bool):
        raise _wrong("stream", "expected true or false")
    _check_messages(body.get("messages"))
    if operation is Operation.CHAT:
        _check_limit(body)
    return ModelRequest(
        model, body, operation, bool(stream) and operation is Operation.CHAT, extra_fields(body),
        ApiFormat.MESSAGES, headers or {},
    )  # fmt: skip


def format_headers(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers of FORMAT_HEADERS, unchanged. Several lines of one header are joined by a comma.

    Raises:
        InvalidRequest: a header has a character that the gateway cannot forward.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        if name in FORMAT_HEADERS and value:
            key = name.decode()
            if not _VALUE.fullmatch(value):
                raise _wrong(key, "expected printable ASCII characters")
            found[key] = f"{found[key]},{value.decode()}" if key in found else value.decode()
    return found


def _object(raw: bytes, facts: TextFacts | None) -> dict[str, Any]:
    try:
        body = parse_json(raw, facts)
    except ValidationFailed as error:  # Anthropic's API has no 422
        details = error.details or [error.message]
        raise InvalidRequest(f"{details[0]}.", param=details[0].partition(": ")[0]) from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return body


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "expected a list of at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise _wrong(f"messages.{index}", "expected an object with a role")


def _check_limit(body: Mapping[str, Any]) -> None:
    """Require max_tokens, as Anthropic does. A provider of another format would not check it."""
    limit = body.get("max_tokens")
    if limit is None:
        raise _wrong("max_tokens", "Field required")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise _wrong("max_tokens", "expected a whole number")


def _wrong(param: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: {what}.", param=param)
