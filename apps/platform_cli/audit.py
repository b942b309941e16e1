"""`flowbiz-platform audit`: read and export who did what."""

from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from apps.platform_cli.database_commands import read_database, write_lines
from platform_app.ledger.reading.audit import AuditFilter, AuditReader


def print_audit(wanted: AuditFilter, limit: int | None) -> None:
    """Print matching entries as JSON lines, newest first; all of them, a page at a time, without a limit."""

    async def work(engine: AsyncEngine) -> None:
        if limit is not None:
            write_lines((await AuditReader(engine).page(wanted, only_owner=None, limit=limit)).entries)
            return
        async for entries in AuditReader(engine).export(wanted, only_owner=None):
            write_lines(entries)

    read_database(work)


def utc(moment: datetime | None) -> datetime | None:
    """A time without a zone is taken for UTC."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
