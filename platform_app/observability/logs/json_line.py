"""A log line for machines: one JSON object."""

import json

import orjson
from structlog.typing import EventDict

from platform_app.observability.logs.escaping import escape_json

_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z


def json_line(event: EventDict) -> bytes:
    """Return the event as one line of JSON. Never fails."""
    try:
        return escape_json(orjson.dumps(event, default=_text, option=_OPTIONS))
    except TypeError:  # half of a surrogate pair, or a number beyond 64 bits
        plain = {str(key): value for key, value in event.items()}
        return json.dumps(plain, default=_text, skipkeys=True).encode() + b"\n"


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a value whose __str__ fails must not fail the log call
        return f"<{type(value).__name__}>"
