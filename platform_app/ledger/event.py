"""Events of the ledger, and how one is written as a line of a spool: JSON whose first member names its kind.

Lines outlive the process, and the version, that wrote them. So members that a reader does not know are ignored,
and a line that it cannot take as a whole is a BadLineError, which the writer sets aside.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

MAX_LINE_BYTES = 16 * 1024
MAX_TEXT = 1024
"""Characters of any text. The longest one that requests can choose is the request id, of 128."""

_HEX_128 = re.compile(r"[0-9a-f]{32}")
_ACCESS = "access"


class BadLineError(Exception):
    """A line that is not an event of a kind this version knows. The message names no value of the line."""


@dataclass(frozen=True, slots=True)
class AccessDecision:
    """What became of one request. Holds no secret, no prompt, and no path that a client typed."""

    event_id: str
    """32 lower-case hex digits; two lines with the same one are the same event."""
    occurred_at: datetime
    """UTC, when the answer was complete."""
    request_id: str
    trace_id: str
    """32 lower-case hex digits."""
    key_id: str | None
    """None where the caller was not known yet."""
    method: str
    route: str
    """The route's template, or `unmatched`."""
    decision: str
    """allow, or deny where auth, scope, model or limit refused."""
    reason: str | None
    """The error code of the answer, `client_closed`, or None where all went well."""
    status: int
    """The HTTP status; 499 for a client that left, 0 where no answer was begun."""
    client_address: str | None
    """As the server knows it. What is no IP address, such as `unix`, is decoded as None."""
    duration_ms: float

    def line(self) -> bytes:
        """This event as a line of a spool."""
        return orjson.dumps(
            {
                "kind": _ACCESS,
                "event_id": self.event_id,
                "occurred_at": self.occurred_at,
                "request_id": self.request_id,
                "trace_id": self.trace_id,
                "key_id": self.key_id,
                "method": self.method,
                "route": self.route,
                "decision": self.decision,
                "reason": self.reason,
                "status": self.status,
                "client_address": self.client_address,
                "duration_ms": self.duration_ms,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )


LedgerEvent = AccessDecision
"""Every kind of event."""


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


def _access(members: Mapping[str, Any]) -> AccessDecision:
    decision = _text(members, "decision")
    if decision not in ("allow", "deny"):
        raise BadLineError("decision is neither allow nor deny")
    status, duration = members.get("status"), members.get("duration_ms")
    if not isinstance(status, int) or not 0 <= status <= 999:
        raise BadLineError("status is not a status")
    if not isinstance(duration, int | float) or not 0 <= duration <= 1e12:
        raise BadLineError("duration_ms is not a duration")
    return AccessDecision(
        event_id=_hex(members, "event_id"),
        occurred_at=_time(members, "occurred_at"),
        request_id=_text(members, "request_id"),
        trace_id=_hex(members, "trace_id"),
        key_id=_optional_text(members, "key_id"),
        method=_text(members, "method"),
        route=_text(members, "route"),
        decision=decision,
        reason=_optional_text(members, "reason"),
        status=status,
        client_address=_address(members, "client_address"),
        duration_ms=float(duration),
    )


_DECODERS: Mapping[str, Callable[[Mapping[str, Any]], LedgerEvent]] = {_ACCESS: _access}


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or len(value) > MAX_TEXT or "\x00" in value:
        raise BadLineError(f"{name} is not a text")
    return value


def _optional_text(members: Mapping[str, Any], name: str) -> str | None:
    return None if members.get(name) is None else _text(members, name)


def _hex(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or _HEX_128.fullmatch(value) is None:
        raise BadLineError(f"{name} is not an id")
    return value


def _time(members: Mapping[str, Any], name: str) -> datetime:
    try:
        value = datetime.fromisoformat(_text(members, name))
        # Without a zone it would be taken for local time.
        if value.tzinfo is None:
            raise BadLineError(f"{name} has no time zone")
        return value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadLineError(f"{name} is not a time") from None


def _address(members: Mapping[str, Any], name: str) -> str | None:
    """Without the zone of an IPv6 address, for which PostgreSQL's inet has no room."""
    text = (_optional_text(members, name) or "").partition("%")[0]
    return text if _is_address(text) else None


@lru_cache(maxsize=4096)
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
