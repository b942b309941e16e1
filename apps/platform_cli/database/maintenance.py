"""`flowbiz-platform maintenance`: the ledger's hourly maintenance, for cron or by hand."""

import asyncio

import typer

from platform_app.config import Settings, load_settings
from platform_app.ledger.shipping.partitions import MaintenanceReport, maintain
from platform_app.ledger.shipping.tables import retention_of
from platform_app.ledger.spool.session import DatabaseUnavailableError, LedgerSession, make_ledger_engine


def run_maintenance() -> int:
    """Create the partitions that are due, drop those past retention, and print both."""
    settings = load_settings()
    try:
        report = asyncio.run(_maintain(settings))
    except DatabaseUnavailableError as error:
        typer.echo(f"Maintenance failed ({error.why}). Check PLATFORM_DATABASE_URL and the role's grants.", err=True)
        return 1
    if not report.ran:
        typer.echo("Another process is running maintenance; nothing to do.")
        return 0
    for what, names in (("created", report.created), ("dropped", report.dropped)):
        for name in names:
            typer.echo(f"{what} {name}")
    typer.echo(
        f"{len(report.created)} partitions created, {len(report.dropped)} dropped "
        f"(kept: {settings.retention_days} days of decisions, {settings.usage_retention_days} of usage)."
    )
    return 0


async def _maintain(settings: Settings) -> MaintenanceReport:
    engine = make_ledger_engine(settings)
    session = LedgerSession(engine)
    try:
        return await maintain(session, retention_of(settings))
    finally:
        await session.aclose()
        await engine.dispose()
