"""Alembic, driven from code: `flowbiz-platform migrate` and the check that `serve` makes at start."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool

from platform_app.config import parse_database_url
from platform_app.db.engine import open_engine

CONNECT_TIMEOUT_SECONDS = 10.0

_PACKAGE = Path(__file__).resolve().parent.parent


def script_location() -> Path:
    """Where the migrations are: inside the package when installed, beside it in a checkout."""
    installed = _PACKAGE / "migrations"
    return installed if installed.is_dir() else _PACKAGE.parent / "migrations"


def head_revision() -> str:
    """The revision that this code was written for."""
    head = ScriptDirectory(str(script_location())).get_current_head()
    assert head is not None, "migrations/versions holds no migration"  # noqa: S101 - a broken build, not input
    return head


def known_revisions() -> frozenset[str]:
    """Every revision that this code knows."""
    scripts = ScriptDirectory(str(script_location()))
    return frozenset(script.revision for script in scripts.walk_revisions())


def is_newer(revision: str | None) -> bool:
    """Return whether a newer version made this schema. Its expand migrations leave what this version uses, so this
    version serves with it: after a rollback, and while a release is being rolled out."""
    return revision is not None and revision not in known_revisions()


async def current_revision(engine: AsyncEngine) -> str | None:
    """The database's revision; None for an empty database."""

    def read(connection: Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    async with engine.connect() as connection:
        return await connection.run_sync(read)


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
