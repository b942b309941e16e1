"""What was used since a moment, according to the ledger, for budgets whose counters Redis lost.

Counts records in PostgreSQL and in this machine's spool, each once. Records that other machines have not shipped
yet, about one second's, are not known here.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from platform_app.db.connections import connect
from platform_app.db.failures import database_failure
from platform_app.ledger.events.event import BadLineError, UsageRecord, decode, is_usage_line
from platform_app.ledger.reading.spooled import read_segment
from platform_app.ledger.spool.segments import Segment, list_directory

MAX_SPOOL_BYTES = 16 * 1024 * 1024
"""A larger spool is behind. Reading it would take too long, so SpentUnknown is raised until it was shipped."""
QUERY_SECONDS = 20.0
"""For one query; the sums of a month take about a second with four million totals (docs/adr/0009)."""
_FAILURES = (OSError, TimeoutError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError)


class SpentUnknown(Exception):
    """What was spent cannot be determined now; the message says why."""


@dataclass(frozen=True, slots=True)
class SpentFilter:
    """Which records count. A field that is None or empty does not filter."""

    key_id: str | None = None
    owner: str | None = None
    models: tuple[str, ...] = ()
    """Public names."""
    routes: tuple[str, ...] = ()
    """Route templates. Totals have no routes, so with these every record of the period is read."""

    def matches(self, record: UsageRecord) -> bool:
        """Whether a usage record counts."""
        return (
            (self.key_id is None or record.key_id == self.key_id)
            and (self.owner is None or record.owner == self.owner)
            and (not self.models or record.model in self.models)
            and (not self.routes or record.route in self.routes)
        )

    def conditions(self, first: int, *, totals: bool) -> tuple[str, list[Any]]:
        """Return the filter as SQL whose parameters are numbered from `first` on."""
        wanted: list[tuple[str, Any]] = []
        if self.key_id is not None:
            wanted.append(("key_id = ${}", self.key_id))
        if self.owner is not None:
            wanted.append(("owner = ${}", self.owner))
        if self.models:
            wanted.append(("model = ANY (${})", list(self.models)))
        if self.routes and not totals:
            wanted.append(("route = ANY (${})", list(self.routes)))
        texts = [text.format(number) for number, (text, _) in enumerate(wanted, first)]
        return "".join(f" AND {text}" for text in texts), [value for _, value in wanted]


@dataclass(slots=True)
class UnpricedTokens:
    """Tokens of calls whose price was not known; only if the caller requested them."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def add(self, prompt: int, completion: int, cached: int) -> None:
        """Count another call."""
        self.prompt += prompt
        self.completion += completion
        self.cached += cached


@dataclass(slots=True)
class Spent:
    """What was used."""

    tokens: int = 0
    cost_microusd: int = 0
    unpriced: UnpricedTokens = field(default_factory=UnpricedTokens)


class SpentReader:
    """Runs one query at a time, so that a Redis that lost all counters does not overload the database too."""

    def __init__(self, engine: AsyncEngine, spool_directory: Path) -> None:
        self._engine = engine
        self._directory = spool_directory
        self._turn = asyncio.Semaphore(1)

    async def spent(self, wanted: SpentFilter, since: datetime, *, unpriced: bool = False) -> Spent:
        """Return what was used from `since` on. `unpriced`: also the tokens of calls without a known price.

        Raises:
            SpentUnknown: the database cannot be read, or the spool is too far behind.
        """
        async with self._turn:
            try:
                # The spool first: what is shipped meanwhile is found in both, and counted once.
                spooled = await asyncio.to_thread(self._read_spool, wanted, since)
                async with asyncio.timeout(QUERY_SECONDS):
                    return await self._ask(wanted, since, spooled, unpriced=unpriced)
            except _FAILURES as error:
                raise SpentUnknown(f"PostgreSQL: {database_failure(error).cause}") from error

    async def _ask(
        self, wanted: SpentFilter, since: datetime, spooled: Sequence[UsageRecord], *, unpriced: bool
    ) -> Spent:
        spent = Spent()
        async with connect(self._engine) as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None  # noqa: S101 - for mypy: a connection has its driver's
            async with driver.transaction(isolation="repeatable_read", readonly=True):
                for statement, parameters in _statements(wanted, since):
                    row = await driver.fetchrow(statement, *parameters, timeout=QUERY_SECONDS)
                    spent.tokens += row["tokens"]
                    spent.cost_microusd += row["cost"]
                if unpriced:
                    statement, parameters = _unpriced(wanted, since)
                    row = await driver.fetchrow(statement, *parameters, timeout=QUERY_SECONDS)
                    spent.unpriced.add(row["prompt"], row["completion"], row["cached"])
                shipped = await _shipped(driver, spooled) if spooled else frozenset()
        for each in spooled:
            if each.event_id not in shipped:
                spent.tokens += each.prompt_tokens + each.completion_tokens
                spent.cost_microusd += each.cost_microusd or 0
                if unpriced and each.cost_microusd is None:
                    spent.unpriced.add(each.prompt_tokens, each.completion_tokens, each.cached_tokens)
        return spent

    def _read_spool(self, wanted: SpentFilter, since: datetime) -> Sequence[UsageRecord]:
        listing = list_directory(self._directory)
        if listing.size > MAX_SPOOL_BYTES:
            raise SpentUnknown("the spool of this machine has not been shipped")
        found: dict[str, UsageRecord] = {}
        for segment in listing.segments:
            for each in _usage_lines(segment, wanted):
                if each.occurred_at >= since:
                    found[each.event_id] = each
        return list(found.values())


def _usage_lines(segment: Segment, wanted: SpentFilter) -> Iterator[UsageRecord]:
    mark = b"" if wanted.key_id is None else wanted.key_id.encode()
    for line in read_segment(segment).split(b"\n"):
        if mark in line and is_usage_line(line):
            try:
                record = decode(line)
            except BadLineError:
                continue  # a line that is being written, or that the writer will set aside
            if isinstance(record, UsageRecord) and wanted.matches(record):
                yield record


def _statements(wanted: SpentFilter, since: datetime) -> Iterator[tuple[str, list[Any]]]:
    """Sums of tokens and cost: of the totals of whole UTC days, and of the records of the day that the period begins
    in. All names are constants of ours."""
    if wanted.routes:
        conditions, values = wanted.conditions(2, totals=False)
        yield f"{_SUMS} usage_records WHERE occurred_at >= $1{conditions}", [since, *values]
        return
    first_day = _first_whole_day(since)
    conditions, values = wanted.conditions(2, totals=True)
    yield f"{_SUMS} usage_daily WHERE day >= $1{conditions}", [first_day, *values]
    midnight = datetime.combine(first_day, time(), UTC)
    if midnight > since:
        conditions, values = wanted.conditions(3, totals=False)
        part = f"{_SUMS} usage_records WHERE occurred_at >= $1 AND occurred_at < $2{conditions}"
        yield part, [since, midnight, *values]


def _unpriced(wanted: SpentFilter, since: datetime) -> tuple[str, list[Any]]:
    conditions, values = wanted.conditions(2, totals=False)
    return (
        "SELECT coalesce(sum(prompt_tokens), 0)::bigint AS prompt, "  # noqa: S608 - constants, and numbered parameters
        "coalesce(sum(completion_tokens), 0)::bigint AS completion, coalesce(sum(cached_tokens), 0)::bigint AS cached "
        f"FROM usage_records WHERE cost_microusd IS NULL AND occurred_at >= $1{conditions}",
        [since, *values],
    )


_SUMS = (
    "SELECT coalesce(sum(prompt_tokens + completion_tokens), 0)::bigint AS tokens, "
    "coalesce(sum(cost_microusd), 0)::bigint AS cost FROM"
)


def _first_whole_day(since: datetime) -> date:
    day = since.astimezone(UTC).date()
    return day if since == datetime.combine(day, time(), UTC) else day + timedelta(days=1)


async def _shipped(driver: Any, spooled: Sequence[UsageRecord]) -> frozenset[str]:
    """The event ids of those that the database has."""
    rows = await driver.fetch(
        "SELECT r.event_id FROM unnest($1::timestamptz[], $2::uuid[]) AS s (at, id) "
        "JOIN usage_records AS r ON r.occurred_at = s.at AND r.event_id = s.id",
        [each.occurred_at for each in spooled],
        [each.event_id for each in spooled],
        timeout=QUERY_SECONDS,
    )
    return frozenset(row["event_id"].hex for row in rows)
