"""Reading a JSON body: after the caller is known, once, and with every problem named.

FastAPI would read and parse the body before any dependency runs, so that somebody without a key could make us
parse ten megabytes; and Python's parser lets lone surrogates through that no later step can encode.
"""

import math
import re
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from apps.platform_api.dependencies import body_of
from apps.platform_api.errors import validation_failed
from apps.platform_api.json_fields import (
    TOO_LONG,
    fields_with,
    has_long_integer,
    is_beyond_64_bits,
    is_half_a_surrogate_pair,
)
from platform_app.errors import UnsupportedMediaType, ValidationFailed

Body = TypeVar("Body", bound=BaseModel)

_JSON = re.compile(r"application/(?:[a-z0-9.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_MAX_BAD_FIELDS = 5


def json_body(model: type[Body]) -> Callable[[Request], Awaitable[Body]]:
    """A dependency that gives the body as this model.

    Raises (from the dependency):
        UnsupportedMediaType: the body is not declared as JSON.
        InvalidRequest: it is not JSON.
        ValidationFailed: it is, but of another shape; each detail names a field.
    """

    async def read(request: Request) -> Body:
        require_json(request)
        return parse(model, await body_of(request))

    return read


def require_json(request: Request) -> None:
    """Raises UnsupportedMediaType where the body is not declared as JSON."""
    if not _JSON.fullmatch(request.headers.get("content-type", "").strip()):
        raise UnsupportedMediaType("Send the body as JSON, with the header 'Content-Type: application/json'.")


def parse(model: type[Body], raw: bytes) -> Body:
    """See json_body."""
    try:
        body = model.model_validate_json(raw)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        if problems[0]["type"] == "json_invalid":
            _refuse(raw, is_half_a_surrogate_pair, "half of a surrogate pair is not text")
        raise validation_failed(problems) from None
    if b"\\u0000" in raw:
        # Not text for PostgreSQL and most providers; a doubled backslash in front is harmless, so look closer.
        _refuse(raw, _has_nul, "a NUL character is not text")
    # pydantic's parser takes these, and nothing that we write JSON with does.
    if b"NaN" in raw or b"Infinity" in raw:
        _refuse(raw, _is_no_number, "NaN and Infinity are not JSON")
    if has_long_integer(raw):
        _refuse(raw, is_beyond_64_bits, TOO_LONG)
    return body


def _refuse(raw: bytes, bad: Callable[[object], bool], why: str) -> None:
    """Name the fields whose value is bad, if there are any."""
    fields = list(islice(fields_with(bad, raw), _MAX_BAD_FIELDS))
    if fields:
        raise ValidationFailed("The request is not valid.", details=[f"{field}: {why}" for field in fields])


def _has_nul(value: object) -> bool:
    return isinstance(value, str) and "\0" in value


def _is_no_number(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
