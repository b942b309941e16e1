"""The event of every request: who asked for what, and what was decided."""

from dataclasses import dataclass
from datetime import datetime

import orjson

from platform_app.ledger import fields
from platform_app.ledger.fields import BadLineError, Members

KIND = "access"


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
    """As the server knows it. What is no IP address, such as `unix`, is decoded as None."""
    duration_ms: float

    def line(self) -> bytes:
        """This event as a line of a spool."""
        return orjson.dumps(
            {
                "kind": KIND,
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
    )
