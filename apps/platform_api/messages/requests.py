"""Read a Messages request. Only the parts that the gateway uses are checked; the body is forwarded unchanged.

Unknown fields pass, except for those that could choose another model, provider, address or price
(platform_app/llm/providers/anthropic/request_fields.py).
"""

import re
from collections.abc import Mapping
from typing import Any

from fastapi import Request

from apps.platform_api.http.body.forwarded_body import parse_object, require_model_name, wrong_field
from apps.platform_api.http.body.json_body import require_json
from apps.platform_api.http.body.json_text import TextFacts
from apps.platform_api.http.request_state import body_facts_of, body_of
from platform_app.llm.field_types import READ, wrong_types
from platform_app.llm.formats import ApiFormat
from platform_app.llm.providers.anthropic.request_fields import extra_fields
from platform_app.llm.requests import ModelRequest, Operation

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
    body = parse_object(raw, facts)
    model, stream = body.pop("model", None), body.pop("stream", None)
    if model is not None:
        require_model_name(model)
    if stream is not None and not isinstance(stream, bool):
        raise wrong_field("stream", "expected true or false")
    _check_messages(body.get("messages"))
    for name, words in wrong_types(body, READ[ApiFormat.MESSAGES]):
        raise wrong_field(name, f"expected {words}")
    _check_limit(body, required=operation is Operation.CHAT)
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
                raise wrong_field(key, "expected printable ASCII characters")
            found[key] = f"{found[key]},{value.decode()}" if key in found else value.decode()
    return found


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise wrong_field("messages", "expected a list of at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise wrong_field(f"messages.{index}", "expected an object with a role")


def _check_limit(body: Mapping[str, Any], *, required: bool) -> None:
    """Require max_tokens, as Anthropic does. A provider of another format would not check it."""
    limit = body.get("max_tokens")
    if limit is None and required:
        raise wrong_field("max_tokens", "Field required")
    if limit is not None and limit < 0:
        raise wrong_field("max_tokens", "expected a whole number that is not negative")
