"""The ledger as earlier versions had it: their lines, and how they shipped events."""

from collections.abc import Sequence
from dataclasses import fields
from ipaddress import ip_address
from typing import Any

import orjson

from platform_app.ledger.events.event import AccessDecision, LedgerEvent
from platform_app.ledger.spool.session import LedgerSession

ADDED_BY_0007 = (
    "AccessDecision.owner",
    "AccessDecision.model",
    "hops",
    "AccessDecision.attempts",
    "upstream_request_id",
)
"""Columns that no version before migration 0007 knows."""
ADDED_BY_0008 = ("session", "requested_model")
"""Columns that no version before migration 0008 knows."""
_TABLES = {"AccessDecision": "access_decisions", "UsageRecord": "usage_records"}


def line_of_version_1(event: LedgerEvent) -> bytes:
    """Return a line as versions before docs/adr/0032 wrote it."""
    kind = "access" if isinstance(event, AccessDecision) else "usage"
    members = {field.name: getattr(event, field.name) for field in fields(event)}
    return orjson.dumps({"kind": kind, **members}, option=orjson.OPT_APPEND_NEWLINE)


class EarlierShipper:
    """Ships as versions before docs/adr/0032 did: rows in COPY's binary format, into a staging table LIKE the table."""

    def __init__(self, session: LedgerSession, *unknown: str) -> None:
        """`unknown`: columns that were added to the tables after that version; `AccessDecision.owner` if other events
        have a column of that name."""
        self._session = session
        self._unknown = unknown

    async def ship(self, events: Sequence[LedgerEvent]) -> None:
        async with self._session.use(60) as driver:
            for name, table in _TABLES.items():
                found = [event for event in events if type(event).__name__ == name]
                for day in {event.occurred_at.date() for event in found}:
                    await driver.execute("SELECT ledger_create_partition($1, $2)", table, day)
                if found:
                    await self._insert(driver, table, found)

    async def _insert(self, driver: Any, table: str, events: Sequence[LedgerEvent]) -> None:
        kind = type(events[0]).__name__
        names = [field.name for field in fields(events[0])]
        columns = [name for name in names if not {name, f"{kind}.{name}"} & set(self._unknown)]
        rows = [tuple(_value(event, name) for name in columns) for event in events]
        named = ", ".join(columns)
        async with driver.transaction():
            await driver.execute(f"CREATE TEMPORARY TABLE staging (LIKE {table}) ON COMMIT DROP")
            await driver.copy_records_to_table("staging", schema_name="pg_temp", records=rows, columns=columns)
            await driver.execute(
                f"INSERT INTO {table} ({named}) SELECT {named} FROM pg_temp.staging ON CONFLICT DO NOTHING"
            )


def _value(event: LedgerEvent, name: str) -> Any:
    value = getattr(event, name)
    return ip_address(value) if name == "client_address" and value is not None else value
