"""Reading what was recorded: lifecycle changes and access decisions as one list, newest first.

Pages are found by where the last one ended (keyset), never by counting rows, so a page deep in a million rows costs
what the first one costs, and an export of all of them is page after page in bounded memory and short transactions.
"""

import base64
import binascii
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Select, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from platform_app.db.connections import connect
from platform_app.db.models import AccessDecision, AuditEvent
from platform_app.errors import ValidationFailed
from platform_app.ledger.events.access_decision import ACCESS
from platform_app.ledger.reading.audit_owner import Kind, owned_by, visible_record

KINDS: tuple[Kind, Kind] = ("access", "lifecycle")
MAX_PAGE = 1000
CONFIG = "config"
"""The target of the lifecycle events that concern the config file and no key."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRACE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; None: any. `route` and `decision` are of access decisions alone."""

    kind: Kind | None = None
    key_id: str | None = None
    """The key that asked, was changed, or made a change."""
    route: str | None = None
    decision: Literal["allow", "deny"] | None = None
    trace_id: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""

    def kinds(self) -> Sequence[Kind]:
        """The kinds that can match."""
        if self.route is not None or self.decision is not None:
            return ("access",) if self.kind != "lifecycle" else ()
        return KINDS if self.kind is None else (self.kind,)


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Entries as JSON-ready data, and where the next page begins (None: there is none)."""

    entries: tuple[Mapping[str, Any], ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class _Place:
    """An entry's place in the list: sorted by time, then kind, then id."""

    occurred_at: datetime
    kind: Kind
    id: str
    """A lifecycle event's number, or an access decision's id in hex."""


class AuditReader:
    """One or two statements for a page; raises what the database raises when it is down."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def page(
        self, wanted: AuditFilter, *, only_owner: str | None, limit: int = 100, cursor: str | None = None
    ) -> AuditPage:
        """Return the entries after `cursor`, which is the `next_cursor` of the page before.

        With `only_owner`, only what concerns that owner's keys: see audit_owner.py.

        Raises:
            ValidationFailed: naming what is wrong with the filter, the limit or the cursor.
        """
        _check(wanted, limit)
        after = _parse_cursor(cursor) if cursor is not None else None
        found: list[tuple[_Place, Mapping[str, Any]]] = []
        async with connect(self._engine) as connection:
            for kind in wanted.kinds():
                # One more than asked for, to know whether there is a next page.
                statement = _statement(kind, wanted, after).where(*owned_by(kind, only_owner))
                rows = await connection.execute(statement.limit(limit + 1))
                found += [(_place(kind, row), _entry(kind, row, only_owner)) for row in rows.mappings()]
        found.sort(key=_sort_key, reverse=True)
        more = len(found) > limit
        return AuditPage(tuple(entry for _, entry in found[:limit]), _cursor(found[limit - 1][0]) if more else None)

    async def export(
        self, wanted: AuditFilter, *, only_owner: str | None
    ) -> AsyncGenerator[Sequence[Mapping[str, Any]], None]:
        """Yield everything that matches, a page at a time; `only_owner` as for `page`."""
        cursor = None
        while True:
            page = await self.page(wanted, only_owner=only_owner, limit=MAX_PAGE, cursor=cursor)
            yield page.entries
            cursor = page.next_cursor
            if cursor is None:
                return


def _check(wanted: AuditFilter, limit: int) -> None:
    problems = []
    if not 1 <= limit <= MAX_PAGE:
        problems.append(f"limit: 1 to {MAX_PAGE} is needed")
    if wanted.trace_id is not None and not _TRACE_ID.fullmatch(wanted.trace_id):
        problems.append("trace_id: 32 lower-case hex digits are needed")
    problems += [
        f"{name}: control characters are not allowed"
        for name in ("key_id", "route", "request_id")
        if not (getattr(wanted, name) or "").isprintable()
    ]
    problems += [
        f"{name}: a time zone is needed, for example 2026-11-23T00:00:00Z"
        for name in ("since", "until")
        if (moment := getattr(wanted, name)) is not None and moment.tzinfo is None
    ]
    problems += [
        f"{name}: lies outside of the calendar"
        for name in ("since", "until")
        if (moment := getattr(wanted, name)) is not None and moment.tzinfo is not None and not _in_utc(moment)
    ]
    if problems:
        raise ValidationFailed("The request is not valid.", details=problems)


def _in_utc(moment: datetime) -> bool:
    try:
        moment.astimezone(UTC)
    except OverflowError:
        return False
    return True


def _statement(kind: Kind, wanted: AuditFilter, after: _Place | None) -> Select[Any]:
    statement = _access(wanted) if kind == "access" else _lifecycle(wanted)
    time, identity = _order(kind)
    if wanted.since is not None:
        statement = statement.where(time >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(time < wanted.until)
    if after is not None:
        if kind == after.kind:
            last = UUID(after.id) if kind == "access" else int(after.id)
            statement = statement.where(tuple_(time, identity) < tuple_(after.occurred_at, last))
        else:
            statement = statement.where(time <= after.occurred_at if kind < after.kind else time < after.occurred_at)
    return statement.order_by(time.desc(), identity.desc())


def _access(wanted: AuditFilter) -> Select[Any]:
    statement: Select[Any] = select(AccessDecision.__table__)
    if wanted.key_id is not None:
        statement = statement.where(AccessDecision.key_id == wanted.key_id)
    if wanted.route is not None:
        statement = statement.where(AccessDecision.route == wanted.route)
    if wanted.decision is not None:
        statement = statement.where(AccessDecision.decision == wanted.decision)
    if wanted.trace_id is not None:
        statement = statement.where(AccessDecision.trace_id == UUID(wanted.trace_id))
    if wanted.request_id is not None:
        statement = statement.where(AccessDecision.request_id == wanted.request_id)
    return statement


def _lifecycle(wanted: AuditFilter) -> Select[Any]:
    statement: Select[Any] = select(AuditEvent.__table__)
    if wanted.key_id is not None:
        statement = statement.where(or_(AuditEvent.target == wanted.key_id, AuditEvent.actor == f"key:{wanted.key_id}"))
    if wanted.trace_id is not None:
        statement = statement.where(AuditEvent.trace_id == wanted.trace_id)
    if wanted.request_id is not None:
        statement = statement.where(AuditEvent.request_id == wanted.request_id)
    return statement


def _order(kind: Kind) -> tuple[Any, Any]:
    if kind == "access":
        return AccessDecision.occurred_at, AccessDecision.event_id
    return AuditEvent.occurred_at, AuditEvent.id


def _place(kind: Kind, row: Mapping[Any, Any]) -> _Place:
    return _Place(row["occurred_at"], kind, row["event_id"].hex if kind == "access" else str(row["id"]))


def _sort_key(found: tuple[_Place, Mapping[str, Any]]) -> tuple[datetime, str, int]:
    place = found[0]
    return place.occurred_at, place.kind, int(place.id, 16 if place.kind == "access" else 10)


def _entry(kind: Kind, row: Mapping[Any, Any], only_owner: str | None) -> Mapping[str, Any]:
    return {"kind": kind, **ACCESS.show(row)} if kind == "access" else _lifecycle_entry(row, only_owner)


def _lifecycle_entry(row: Mapping[Any, Any], only_owner: str | None) -> Mapping[str, Any]:
    return {
        "kind": "lifecycle",
        "id": str(row["id"]),
        "occurred_at": row["occurred_at"].isoformat(),
        "key_id": row["target"] if row["target"] != CONFIG else None,
        "action": row["action"],
        "actor": row["actor"],
        "before": visible_record(row["before"], only_owner),
        "after": visible_record(row["after"], only_owner),
        "reason": row["reason"],
        "request_id": row["request_id"],
        "trace_id": row["trace_id"],
        "client_address": row["client_address"],
    }


def _cursor(place: _Place) -> str:
    microseconds = (place.occurred_at - _EPOCH) // timedelta(microseconds=1)
    text = f"{microseconds}.{place.kind}.{place.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _parse_cursor(cursor: str) -> _Place:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        microseconds, kind, identity = text.split(".")
        occurred_at = _EPOCH + timedelta(microseconds=int(microseconds))
        if kind == "access":
            return _Place(occurred_at, "access", UUID(identity).hex)
        if kind == "lifecycle" and 0 < int(identity) < 2**63:
            return _Place(occurred_at, "lifecycle", str(int(identity)))
    except (binascii.Error, ValueError, OverflowError):
        pass
    problem = "cursor: is not a next_cursor of this list; leave it out to start at the beginning"
    raise ValidationFailed("The request is not valid.", details=[problem])
