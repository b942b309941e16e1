"""Reading usage: sums from the daily totals, and single records for clients that add them up in another way.

Sums never read records. Their cost is the number of (day, key, owner, provider, model) that the period has, however
many requests there were.
"""

import base64
import binascii
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import BigInteger, ColumnElement, Select, cast, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from platform_app.db.connections import connect
from platform_app.db.models import UsageDaily, UsageRecord
from platform_app.errors import ValidationFailed
from platform_app.ledger.events.codecs import dollars
from platform_app.ledger.events.usage_record import USAGE
from platform_app.ledger.reading.usage_query import DEFAULT_GROUPS, FIELDS, GroupBy, UsageFilter, check_groups

MAX_GROUPS = 1000
"""Groups of one page."""
MAX_RECORDS = 1000
"""Records of one page of an export."""

_SUMS = (
    "requests", "errors", "client_closed", "prompt_tokens", "completion_tokens", "cached_tokens", "cost_microusd",
    "requests_without_price", "estimated_requests", "requests_with_first_token",
)  # fmt: skip
_TIMES = ("duration_ms", "first_token_ms")


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Sums as JSON-ready data: a page of groups, and over everything that matches."""

    groups: tuple[Mapping[str, Any], ...]
    totals: Mapping[str, Any]
    since: date
    until: date
    next_cursor: str | None
    """Where the next page begins; None: there is none."""

    def plain(self) -> dict[str, Any]:
        """As HTTP and the command line show it."""
        return {
            "data": list(self.groups),
            "totals": self.totals,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "next_cursor": self.next_cursor,
        }


class UsageReader:
    """One or two statements for a page of sums, in one snapshot; raises what the database raises when it is down."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._snapshot = engine.execution_options(isolation_level="REPEATABLE READ")
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def page(
        self,
        wanted: UsageFilter,
        group_by: Sequence[str] = DEFAULT_GROUPS,
        *,
        only_owner: str | None,
        limit: int = MAX_GROUPS,
        cursor: str | None = None,
    ) -> UsagePage:
        """Return the groups after `cursor` (the `next_cursor` of the page before), sorted by what they are grouped by.

        With `only_owner`, nothing of another owner is in the groups or in the totals.

        Raises:
            ValidationFailed: naming what is wrong with the filter, the groups, the limit or the cursor.
        """
        since, until = wanted.period()
        groups = check_groups(group_by)
        if not 1 <= limit <= MAX_GROUPS:
            raise ValidationFailed("The request is not valid.", details=[f"limit: 1 to {MAX_GROUPS} is needed"])
        matching = (*_matching(wanted, since, until), *_owned_by(UsageDaily, only_owner))
        statement = _grouped(groups, matching)
        if cursor is not None:
            columns = [_column(group) for group in groups]
            statement = statement.where(tuple_(*columns) > tuple_(*_parse_cursor(cursor, groups)))
        sums: Mapping[Any, Any]
        async with connect(self._snapshot) as connection:
            # One more than asked for, to know whether there is a next page.
            found = (await connection.execute(statement.limit(limit + 1))).mappings().all()
            more = len(found) > limit
            if more or cursor is not None:
                totals: Select[Any] = select(*_sums()).where(*matching)
                sums = (await connection.execute(totals)).mappings().one()
            else:  # the page is the whole: no need to read everything twice
                sums = {name: sum(row[name] for row in found) for name in (*_SUMS, *_TIMES)}
        shown = tuple(_named(row, groups) | _shown(row) for row in found[:limit])
        return UsagePage(shown, _shown(sums), since, until, _cursor(found[limit - 1], groups) if more else None)

    async def records(
        self, wanted: UsageFilter, *, only_owner: str | None
    ) -> AsyncGenerator[Sequence[Mapping[str, Any]], None]:
        """Yield every single record that matches, newest first, a page at a time, in short statements.

        Raises:
            ValidationFailed: naming what is wrong with the filter.
        """
        since, until = wanted.period()
        statement = (
            select(UsageRecord.__table__)
            .where(UsageRecord.occurred_at >= _midnight(since), UsageRecord.occurred_at < _midnight(until))
            .where(*_texts(UsageRecord, wanted), *_owned_by(UsageRecord, only_owner))
            .order_by(UsageRecord.occurred_at.desc(), UsageRecord.event_id.desc())
            .limit(MAX_RECORDS)
        )
        last: tuple[datetime, UUID] | None = None
        while True:
            page = statement
            if last is not None:
                page = page.where(tuple_(UsageRecord.occurred_at, UsageRecord.event_id) < tuple_(*last))
            async with connect(self._engine) as connection:
                rows = (await connection.execute(page)).mappings().all()
            yield [USAGE.show(row) for row in rows]
            if len(rows) < MAX_RECORDS:
                return
            last = rows[-1]["occurred_at"], rows[-1]["event_id"]

    async def by_upstream_model(self, provider: str, since: date, until: date) -> Sequence["UpstreamUsage"]:
        """Return what a provider's bill can be compared with: sums by UTC day and the model's name there. Reads the
        records, a day at a time."""
        day = since
        found: list[UpstreamUsage] = []
        async with connect(self._engine) as connection:
            while day < until:
                following = day + timedelta(days=1)
                statement = _BY_UPSTREAM_MODEL.where(
                    UsageRecord.provider == provider,
                    UsageRecord.occurred_at >= _midnight(day),
                    UsageRecord.occurred_at < _midnight(following),
                )
                rows: Sequence[Sequence[Any]] = (await connection.execute(statement)).all()
                found += [UpstreamUsage(day, *row) for row in rows]
                day = following
        return found


@dataclass(frozen=True, slots=True)
class UpstreamUsage:
    """What was used of one model of a provider on one day."""

    day: date
    upstream_model: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    estimated_requests: int
    requests_without_price: int
    cost_microusd: int

    @property
    def cost_usd(self) -> Decimal:
        """US dollars, without the requests that have no price."""
        return Decimal(self.cost_microusd) / 1_000_000


def _whole(column: Any) -> Any:
    return cast(func.coalesce(func.sum(column), 0), BigInteger)


_BY_UPSTREAM_MODEL: Select[Any] = select(
    UsageRecord.upstream_model,
    func.count(),
    _whole(UsageRecord.prompt_tokens),
    _whole(UsageRecord.cached_tokens),
    _whole(UsageRecord.completion_tokens),
    func.count().filter(UsageRecord.estimated),
    func.count().filter(UsageRecord.cost_microusd.is_(None)),
    _whole(UsageRecord.cost_microusd),
).group_by(UsageRecord.upstream_model)


def _grouped(groups: Sequence[GroupBy], matching: Sequence[ColumnElement[bool]]) -> Select[Any]:
    columns = [_column(group) for group in groups]
    return select(*columns, *_sums()).where(*matching).group_by(*columns).order_by(*columns)


def _matching(wanted: UsageFilter, since: date, until: date) -> Sequence[ColumnElement[bool]]:
    return (UsageDaily.day >= since, UsageDaily.day < until, *_texts(UsageDaily, wanted))


def _texts(table: type[UsageDaily | UsageRecord], wanted: UsageFilter) -> Sequence[ColumnElement[bool]]:
    return [getattr(table, name) == value for name, value in wanted.texts().items()]


def _owned_by(table: type[UsageDaily | UsageRecord], only_owner: str | None) -> Sequence[ColumnElement[bool]]:
    """The owner of a record is the key's at the time of the request, so a key that moves takes no records along."""
    return () if only_owner is None else (table.owner == only_owner,)


def _sums() -> list[Any]:
    whole = [cast(func.coalesce(func.sum(getattr(UsageDaily, name)), 0), BigInteger).label(name) for name in _SUMS]
    return whole + [func.coalesce(func.sum(getattr(UsageDaily, name)), 0.0).label(name) for name in _TIMES]


def _column(group: GroupBy) -> Any:
    return getattr(UsageDaily, FIELDS[group])


def _named(row: Mapping[Any, Any], groups: Sequence[GroupBy]) -> dict[str, Any]:
    values = {FIELDS[group]: row[FIELDS[group]] for group in groups}
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in values.items()}


def _shown(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "requests": row["requests"],
        "errors": row["errors"],
        "client_closed": row["client_closed"],
        "prompt_tokens": row["prompt_tokens"],
        "completion_tokens": row["completion_tokens"],
        "cached_tokens": row["cached_tokens"],
        "total_tokens": row["prompt_tokens"] + row["completion_tokens"],
        "cost_usd": dollars(row["cost_microusd"]),
        "requests_without_price": row["requests_without_price"],
        "estimated_requests": row["estimated_requests"],
        "mean_duration_ms": _mean(row["duration_ms"], row["requests"]),
        "mean_first_token_ms": _mean(row["first_token_ms"], row["requests_with_first_token"]),
    }


def _mean(total: float, count: int) -> float | None:
    return round(total / count, 3) if count else None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _cursor(row: Mapping[Any, Any], groups: Sequence[GroupBy]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(_named(row, groups))).decode().rstrip("=")


def _parse_cursor(cursor: str, groups: Sequence[GroupBy]) -> list[Any]:
    """The values of the group that the page before ended with."""
    try:
        named = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        # In the order of the groups of the request, which is the order of the sorting.
        if isinstance(named, dict) and list(named) == [FIELDS[group] for group in groups]:
            return [_value(group, named[FIELDS[group]]) for group in groups]
    except (binascii.Error, ValueError):
        pass
    problem = "cursor: is not a next_cursor of a request with the same group_by; leave it out to start at the beginning"
    raise ValidationFailed("The request is not valid.", details=[problem])


def _value(group: GroupBy, value: object) -> Any:
    """Raises ValueError for what no column holds."""
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError("not a text")
    return date.fromisoformat(value) if group == "day" else value
