"""`flowbiz-platform audit`: read and export who did what."""

import asyncio
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import typer

from platform_app.auth.keys import DATABASE_ERRORS
from platform_app.config import load_settings
from platform_app.db.engine import make_engine
from platform_app.errors import AuthUnavailable
from platform_app.ledger.reader import AuditFilter, AuditReader


def print_audit(wanted: AuditFilter, limit: int | None) -> None:
    """Print matching entries as JSON lines, newest first; all of them, a page at a time, without a limit."""

    async def main() -> None:
        engine = make_engine(load_settings())
        try:
            if limit is not None:
                _write((await AuditReader(engine).page(wanted, limit=limit)).entries)
                return
            async for entries in AuditReader(engine).export(wanted):
                _write(entries)
        finally:
            await engine.dispose()

    try:
        asyncio.run(main())
    except DATABASE_ERRORS as error:
        if isinstance(error, BrokenPipeError):
            sys.stderr.close()  # the reader of our output left, as `head` does
            raise typer.Exit(0) from None
        raise AuthUnavailable(
            f"The database does not answer ({type(error).__name__}). Check PLATFORM_DATABASE_URL."
        ) from None


def utc(moment: datetime | None) -> datetime | None:
    """A time without a zone is taken for UTC."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _write(entries: Iterable[Mapping[str, Any]]) -> None:
    lines = b"".join(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE) for entry in entries)
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()
