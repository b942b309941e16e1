"""Read a JSON body as a model: after the caller is known, once, and at a bounded cost.

FastAPI would read and parse the body before any dependency runs. A client without a key could then make the gateway
parse ten megabytes.
"""

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from apps.platform_api.http.body.encoding import refuse_encoded
from apps.platform_api.http.body.json_text import TextFacts, facts_of, parse_json, refuse_nul
from apps.platform_api.http.errors import validation_failed
from apps.platform_api.http.request_state import body_facts_of, body_of
from platform_app.errors import UnsupportedMediaType, ValidationFailed

Body = TypeVar("Body", bound=BaseModel)

_JSON = re.compile(rb"[ \t]*application/(?:[a-z0-9.+-]+\+)?json[ \t]*(?:;.*)?", re.IGNORECASE)


def json_body(model: type[Body]) -> Callable[[Request], Awaitable[Body]]:
    """Return a FastAPI dependency that reads the body as this model."""

    async def read(request: Request) -> Body:
        return await read_json(request, model)

    return read


async def read_json(request: Request, model: type[Body]) -> Body:
    """Return the request's body as this model.

    Raises:
        UnsupportedMediaType: the body is not declared as JSON.
        InvalidRequest: the body is not JSON.
        ValidationFailed: the body is JSON of another shape; each detail names a field.
    """
    require_json(request)
    raw = await body_of(request)
    return parse(model, raw, body_facts_of(request))


def require_json(request: Request) -> None:
    """Raise UnsupportedMediaType if the body is not declared as JSON, or is declared as compressed."""
    content_type = None
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            content_type = value if content_type is None else content_type
        elif name == b"content-encoding":
            refuse_encoded(value)
    if content_type is None or not _JSON.fullmatch(content_type):
        raise UnsupportedMediaType("Send the body as JSON, with the header 'Content-Type: application/json'.")


def parse(model: type[Body], raw: bytes, facts: TextFacts | None = None) -> Body:
    """Return the raw body as this model; see read_json for the errors and parse_json for `facts`."""
    facts = facts or facts_of(raw)
    data = parse_json(raw, facts)
    if not isinstance(data, dict):
        raise ValidationFailed("The request is not valid.", details=["body: Input should be an object"])
    try:
        body = model.model_validate(data)
    except ValidationError as error:
        raise validation_failed(error.errors(include_url=False, include_input=False)) from None
    if facts.nul:
        refuse_nul(data)
    return body
