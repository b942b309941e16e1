"""`flowbiz-platform audit`: read and export access decisions and lifecycle changes."""

from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from apps.platform_cli.database.commands import read_database, write_lines
from apps.platform_cli.terminal.progress import Progress
from platform_app.ledger.reading.audit import AuditFilter, AuditReader


def print_audit(wanted: AuditFilter, limit: int | None) -> None:
    """Print matching entries as JSON lines, newest first. Without a limit all of them are printed, a page at a time."""

    async def work(engine: AsyncEngine) -> None:
        if limit is not None:
            write_lines((await AuditReader(engine).page(wanted, only_owner=None, limit=limit)).entries)
            return
        with Progress("entries") as progress:
            async for entries in AuditReader(engine).export(wanted, only_owner=None):
                write_lines(entries)
                progress.add(len(entries), entries[-1].get("occurred_at") if entries else None)

    read_database(work)


def utc(moment: datetime | None) -> datetime | None:
    """Return the time, in UTC if it has no zone."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
