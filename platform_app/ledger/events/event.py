"""Every kind of event, and how the lines of a spool are read.

Lines outlive the process, and the version, that wrote them. A line that this version cannot accept as a whole is a
BadLineError; the writer sets it aside.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from platform_app.ledger.events.access_decision import ACCESS, AccessDecision
from platform_app.ledger.events.codecs import BadLineError
from platform_app.ledger.events.columns import Columns
from platform_app.ledger.events.usage_record import USAGE, UsageRecord

__all__ = [
    "MAX_LINE_BYTES",
    "AccessDecision",
    "BadLineError",
    "LedgerEvent",
    "UsageRecord",
    "decode",
    "is_event",
    "is_usage_line",
]

MAX_LINE_BYTES = 16 * 1024

LedgerEvent = AccessDecision | UsageRecord
"""Every kind of event."""

_KINDS: Mapping[str, Columns[Any]] = {ACCESS.kind: ACCESS, USAGE.kind: USAGE}
_USAGE_STARTS = (b'["usage",', b'{"kind":"usage",')


def decode(line: bytes) -> LedgerEvent:
    """Return the event of a line, with or without its line feed. PostgreSQL accepts its values.

    Lines of versions before docs/adr/0032 are JSON objects: the kind and the fields by name.

    Raises:
        BadLineError: the line holds no event, or values that a column would not accept.
    """
    if len(line) > MAX_LINE_BYTES:
        raise BadLineError("longer than any event")
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise BadLineError("not JSON") from None
    if isinstance(content, list):
        kind, *values = content or [None]
        event: LedgerEvent = _columns_of(kind).decode_values(values)
    elif isinstance(content, dict):
        event = _columns_of(content.get("kind")).decode_members(content)
    else:
        raise BadLineError("neither an array nor an object")
    return event


def is_event(line: bytes) -> bool:
    """Whether `decode` accepts a line."""
    try:
        decode(line)
    except BadLineError:
        return False
    return True


def is_usage_line(line: bytes) -> bool:
    """Whether a line is a usage record's, by its first bytes."""
    return line.startswith(_USAGE_STARTS)


def _columns_of(kind: object) -> Columns[Any]:
    columns = _KINDS.get(kind) if isinstance(kind, str) else None
    if columns is None:
        raise BadLineError("an unknown kind")
    return columns
