"""Which entries of the audit concern one owner: a caller without `platform:*` reads no others.

- An access decision concerns the owner that its key had when the request began. Decisions of versions before
  docs/adr/0036 do not name the owner; it follows from the key's owner of today and from the lifecycle events that moved
  the key since. A decision without a key concerns no owner.
- A lifecycle event concerns the owner before it and the owner after it. If a key moves from one owner to another, each
  of the two sees the event with its own side alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, Text, func, literal_column, or_, select, union

from platform_app.db.models import AccessDecision, ApiKey, AuditEvent

Kind = Literal["access", "lifecycle"]

# Literal, not bound parameters: only then does PostgreSQL see that the partial index fits.
_owner_before = literal_column("audit_events.before ->> 'owner'", Text())
_owner_after = literal_column("audit_events.after ->> 'owner'", Text())
_moved = _owner_before != _owner_after
"""The condition of the index ix_audit_events_owner_changes."""


def owned_by(kind: Kind, only_owner: str | None) -> Sequence[ColumnElement[bool]]:
    """Return the conditions for the entries that concern this owner; none where `only_owner` is None."""
    if only_owner is None:
        return ()
    if kind == "lifecycle":
        return (or_(_owner_before == only_owner, _owner_after == only_owner),)
    ever_owned = union(
        select(ApiKey.key_id).where(ApiKey.owner == only_owner),
        select(AuditEvent.target).where(_moved, _owner_before == only_owner),
    )
    return (AccessDecision.key_id.in_(ever_owned), _owner_then() == only_owner)


def visible_record(record: Mapping[str, Any] | None, only_owner: str | None) -> Mapping[str, Any] | None:
    """Return a lifecycle event's `before` or `after`, or None where it shows a key of another owner."""
    if record is None or only_owner is None or record.get("owner") == only_owner:
        return record
    return None


def _owner_then() -> ColumnElement[str]:
    """The owner that the decision's key had when its request began. Where the decision does not name it, that is the
    owner before the key's first move after that."""
    began_at = AccessDecision.occurred_at - func.make_interval(0, 0, 0, 0, 0, 0, AccessDecision.duration_ms / 1000)
    before_next_move = (
        select(_owner_before)
        .where(AuditEvent.target == AccessDecision.key_id, _moved)
        .where(AuditEvent.occurred_at > began_at)
        .order_by(AuditEvent.id)
        .limit(1)
        .correlate(AccessDecision)
        .scalar_subquery()
    )
    today = select(ApiKey.owner).where(ApiKey.key_id == AccessDecision.key_id).correlate(AccessDecision)
    return func.coalesce(AccessDecision.owner, before_next_move, today.scalar_subquery())
