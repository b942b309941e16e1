"""The event of every request: who asked for what, and what was decided."""

from dataclasses import dataclass
from datetime import datetime

import orjson

from platform_app.ledger.events import fields
from platform_app.ledger.events.fields import BadLineError, Members

KIND = "access"
VARIOUS = "various"
"""The method or route of a count whose requests had several."""
MAX_COUNT = 2**31 - 1

# No field is longer than this, whatever a client sends or a bug lets through.
_REQUEST_ID, _NAME, _CODE, _METHOD, _ADDRESS = 128, 256, 64, 32, 64


@dataclass(slots=True)  # frozen ones take three times as long to make, and there are two of each for every request
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
    """As the server knows it. What is no IP address, such as `unix`, is decoded as None. A count of several IPv6
    addresses has their /64; one of many networks has None."""
    duration_ms: float
    """Of a count the mean."""
    count: int = 1
    """How many requests this event stands for; more than one only without a key (refusal_counts.py). The ids and the
    time are then those of the first."""

    def line(self) -> bytes:
        """This event as a line of a spool. What is too long is cut."""
        return orjson.dumps(
            {
                "kind": KIND,
                "event_id": self.event_id,
                "occurred_at": self.occurred_at,
                "request_id": self.request_id[:_REQUEST_ID],
                "trace_id": self.trace_id,
                "key_id": self.key_id and self.key_id[:_CODE],
                "method": self.method[:_METHOD],
                "route": self.route[:_NAME],
                "decision": self.decision,
                "reason": self.reason and self.reason[:_CODE],
                "status": self.status,
                "client_address": self.client_address and self.client_address[:_ADDRESS],
                "duration_ms": self.duration_ms,
                "count": self.count,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )


def decode_access(members: Members) -> AccessDecision:
    """The decision that a line's members hold. Raises BadLineError."""
    decision = fields.text(members, "decision")
    if decision not in ("allow", "deny"):
        raise BadLineError("decision is neither allow nor deny")
    return AccessDecision(
        event_id=fields.hex_id(members, "event_id"),
        occurred_at=fields.time(members, "occurred_at"),
        request_id=fields.text(members, "request_id"),
        trace_id=fields.hex_id(members, "trace_id"),
        key_id=fields.optional_text(members, "key_id"),
        method=fields.text(members, "method"),
        route=fields.text(members, "route"),
        decision=decision,
        reason=fields.optional_text(members, "reason"),
        status=fields.count(members, "status", 999),
        client_address=fields.address(members, "client_address"),
        duration_ms=fields.milliseconds(members, "duration_ms"),
        count=fields.count(members, "count", MAX_COUNT) if "count" in members else 1,
    )
