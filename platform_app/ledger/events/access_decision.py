"""The event of every request: which client asked for what, and what was decided."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from platform_app.ledger.events.codecs import (
    Address,
    Attempts,
    Count,
    HexId,
    Hops,
    Milliseconds,
    Moment,
    OneOf,
    Text,
)
from platform_app.ledger.events.columns import Columns
from platform_app.ledger.events.hops_and_attempts import MAX_ATTEMPTS_TEXT, MAX_HOPS_TEXT

VARIOUS = "various"
"""The method or route of a count whose requests had several."""
MAX_COUNT = 2**31 - 1


# Not frozen: frozen ones take three times as long to make, and each request makes two events.
@dataclass(slots=True, kw_only=True)
class AccessDecision:
    """What became of one request. It holds no secret, no prompt, and no path that a client typed."""

    occurred_at: Annotated[datetime, Moment()]
    """When the response was complete, in UTC."""
    event_id: Annotated[str, HexId()]
    """32 lower-case hex digits; two lines with the same id are the same event."""
    key_id: Annotated[str | None, Text(64)]
    """None if the caller was not known yet."""
    method: Annotated[str, Text(32)]
    route: Annotated[str, Text(256)]
    """The route's template, or `unmatched`."""
    decision: Annotated[str, OneOf(("allow", "deny"))]
    """`deny` if auth, scope, model or limit refused the request."""
    reason: Annotated[str | None, Text(64)]
    """The error code of the response, `client_closed`, or None if the request succeeded."""
    status: Annotated[int, Count(999)]
    """The HTTP status; 499 if the client disconnected, 0 if no response was begun."""
    duration_ms: Annotated[float, Milliseconds()]
    """The mean, if the event counts several requests."""
    count: Annotated[int, Count(MAX_COUNT)] = 1
    """How many requests this event stands for; more than one only without a key (refusal_counts.py). The ids and the
    time are then those of the first request."""
    request_id: Annotated[str, Text(128)]
    trace_id: Annotated[str, HexId()]
    """32 lower-case hex digits."""
    client_address: Annotated[str | None, Address()]
    """As the server knows it. A value that is not an IP address, such as `unix`, is stored as null. A count of several
    IPv6 addresses has their /64; a count of many networks has None."""
    owner: Annotated[str | None, Text(256)] = None
    """The key's owner at that time. None if the caller was not known, and in decisions of versions before
    docs/adr/0036."""
    model: Annotated[str | None, Text(256)] = None
    """The public name; None if the request did not get as far as a known model."""
    hops: Annotated[str | None, Hops(MAX_HOPS_TEXT)] = None
    """The steps of the request with their times (hops_and_attempts.py)."""
    attempts: Annotated[str | None, Attempts(MAX_ATTEMPTS_TEXT)] = None
    """The attempts at providers; None if there was none, or only one that succeeded: the usage record has it."""

    def line(self) -> bytes:
        """Return this event as a line of a spool."""
        return _encode(self)


ACCESS = Columns("access", AccessDecision)
_encode = ACCESS.encoder()
