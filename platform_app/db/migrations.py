"""Alembic, driven from code: `flowbiz-platform migrate` and the check that `serve` makes at start."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.pool import NullPool

from platform_app.config import parse_database_url
from platform_app.db.engine import open_engine
from platform_app.db.revisions import current_revision, head_revision, is_newer, known_revisions, script_location

__all__ = [
    "current_revision",
    "downgrade",
    "head_revision",
    "is_newer",
    "known_revisions",
    "new",
    "script_location",
    "upgrade",
]

CONNECT_TIMEOUT_SECONDS = 10.0


def upgrade(url: str, revision: str = "head", *, ca_file: Path | None = None) -> None:
    """Bring the schema up to `revision`; each migration is a separate transaction. `ca_file` holds the CAs to trust
    if the URL names none."""
    _run(url, ca_file, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str, *, ca_file: Path | None = None) -> None:
    """Take the schema down to `revision`; `base` removes everything."""
    _run(url, ca_file, lambda config: command.downgrade(config, revision))


def new(message: str) -> None:
    """Write an empty migration into the checkout."""
    command.revision(_config(), message=message)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    return config


def _run(url: str, ca_file: Path | None, action: Callable[[Config], object]) -> None:
    """Open one connection, hand it to migrations/env.py, and run the Alembic command on it."""

    async def main() -> None:
        engine = open_engine(
            parse_database_url(url, ca_file), CONNECT_TIMEOUT_SECONDS, purpose="migrate", poolclass=NullPool
        )
        try:
            async with engine.connect() as connection:
                await connection.run_sync(on_connection)
        finally:
            await engine.dispose()

    def on_connection(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        action(config)

    asyncio.run(main())
