"""Alembic, driven from code: `flowbiz-platform migrate` and the check that `serve` makes at start."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.pool import NullPool

from platform_app.config import parse_database_url
from platform_app.db.engine import open_engine
from platform_app.db.revisions import current_revision, head_revision, is_newer, known_revisions, script_location
from platform_app.db.schema_changes import Loss, find_losses, grant_runtime_role

__all__ = [
    "UnknownRevisionError",
    "current_revision",
    "downgrade",
    "grant",
    "head_revision",
    "is_newer",
    "known_revisions",
    "losses",
    "new",
    "revisions_in_order",
    "script_location",
    "upgrade",
]


CONNECT_TIMEOUT_SECONDS = 10.0

T = TypeVar("T")


class UnknownRevisionError(Exception):
    """There is no such revision to go to."""

    def __init__(self, revision: str, possible: list[str]) -> None:
        super().__init__(f"There is no revision '{revision}' to go to. Possible: {', '.join(possible)}.")


def revisions_in_order() -> list[str]:
    """Return every revision, oldest first."""
    scripts = ScriptDirectory(str(script_location()))
    return [script.revision for script in scripts.walk_revisions()][::-1]


def losses(url: str, revision: str, *, ca_file: Path | None = None) -> list[Loss]:
    """Return the tables and columns that go when the schema is taken down to `revision`, with their rows.

    Raises:
        UnknownRevisionError: there is no such revision below the database's.
    """
    order = revisions_in_order()

    def find(connection: Connection) -> list[Loss]:
        current = MigrationContext.configure(connection).get_current_revision()
        below = order[: order.index(current)] if current in order else order
        if revision not in ("base", current) and revision not in below:
            raise UnknownRevisionError(revision, ["base", *below])
        kept = 0 if revision == "base" else order.index(revision) + 1
        there = 0 if current is None else order.index(current) + 1 if current in order else len(order)
        return find_losses(connection, order[kept:there])

    return _with_connection(url, ca_file, find)


def grant(url: str, *, ca_file: Path | None = None) -> str:
    """Give the runtime role its rights; see grant_runtime_role."""

    def run(connection: Connection) -> str:
        done = grant_runtime_role(connection)
        connection.commit()
        return done

    return _with_connection(url, ca_file, run)


def upgrade(url: str, revision: str = "head", *, ca_file: Path | None = None) -> None:
    """Bring the schema up to `revision`; each migration is a separate transaction. `ca_file` holds the CAs to trust
    if the URL names none."""
    _run(url, ca_file, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str, *, ca_file: Path | None = None) -> None:
    """Take the schema down to `revision`; `base` removes everything."""
    _run(url, ca_file, lambda config: command.downgrade(config, revision))


def new(message: str) -> Path:
    """Write an empty migration with the next number into the checkout, and return its file."""
    config = _config()
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    number = int(head_revision()) + 1
    script = command.revision(config, message=message.replace('"', "'"), rev_id=f"{number:04d}")
    return Path(script.path)  # type: ignore[union-attr]  # one revision was asked for, so it is not a list


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    return config


def _run(url: str, ca_file: Path | None, action: Callable[[Config], object]) -> None:
    """Open one connection, hand it to migrations/env.py, and run the Alembic command on it."""

    def on_connection(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        action(config)

    _with_connection(url, ca_file, on_connection)


def _with_connection(url: str, ca_file: Path | None, work: Callable[[Connection], T]) -> T:
    """Open one connection and return what `work` returns for it."""

    async def main() -> T:
        engine = open_engine(
            parse_database_url(url, ca_file), CONNECT_TIMEOUT_SECONDS, purpose="migrate", poolclass=NullPool
        )
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(work)
        finally:
            await engine.dispose()

    return asyncio.run(main())
