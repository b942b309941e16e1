"""Events of the ledger, and how one is written as a line of a spool: JSON whose first member names its kind.

Lines outlive the process, and the version, that wrote them. So members that a reader does not know are ignored,
and a line that it cannot take as a whole is a BadLineError, which the writer sets aside.
"""

from collections.abc import Callable, Mapping

import orjson

from platform_app.ledger.events import access_decision, usage_record
from platform_app.ledger.events.access_decision import AccessDecision, decode_access
from platform_app.ledger.events.fields import BadLineError, Members
from platform_app.ledger.events.usage_record import UsageRecord, decode_usage

__all__ = ["MAX_LINE_BYTES", "AccessDecision", "BadLineError", "LedgerEvent", "UsageRecord", "decode"]

MAX_LINE_BYTES = 16 * 1024

LedgerEvent = AccessDecision | UsageRecord
"""Every kind of event."""

_DECODERS: Mapping[str, Callable[[Members], LedgerEvent]] = {
    access_decision.KIND: decode_access,
    usage_record.KIND: decode_usage,
}


def decode(line: bytes) -> LedgerEvent:
    """The event that a line holds, with or without its line feed. What it gives, PostgreSQL takes.

    Raises:
        BadLineError: it holds none, or one that no column would take.
    """
    if len(line) > MAX_LINE_BYTES:
        raise BadLineError("longer than any event")
    try:
        members = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise BadLineError("not JSON") from None
    if not isinstance(members, dict):
        raise BadLineError("not a JSON object")
    kind = members.get("kind")
    decoder = _DECODERS.get(kind) if isinstance(kind, str) else None
    if decoder is None:
        raise BadLineError("an unknown kind")
    return decoder(members)
