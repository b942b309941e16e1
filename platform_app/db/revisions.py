"""The schema's revisions: those that this code knows, and that of the database.

Read without Alembic, so that a worker does not load it: with its templates it takes 4 MB. `migrations.py` changes the
schema.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from platform_app.db.connections import IS_READ_ONLY, ServerReadOnly, ask_again

_PACKAGE = Path(__file__).resolve().parent.parent
_VERSION_TABLE = "alembic_version"
_FIELD = re.compile(r'^(revision|down_revision)(?::[^=]+)? = (?:"(\w+)"|None)$', re.MULTILINE)


def script_location() -> Path:
    """Where the migrations are: inside the package when installed, beside it in a checkout."""
    installed = _PACKAGE / "migrations"
    return installed if installed.is_dir() else _PACKAGE.parent / "migrations"


def head_revision() -> str:
    """The revision that this code was written for."""
    down = _down_revisions()
    [head] = down.keys() - down.values()  # a broken build fails here: no migration, or two heads
    return head


def known_revisions() -> frozenset[str]:
    """Every revision that this code knows."""
    return frozenset(_down_revisions())


def is_newer(revision: str | None) -> bool:
    """Return whether a newer version made this schema. Its expand migrations leave what this version uses, so this
    version serves with it: after a rollback, and while a release is being rolled out."""
    return revision is not None and revision not in known_revisions()


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """What a reachable database is."""

    revision: str | None
    """None for an empty database."""
    read_only: bool
    """A replica, or default_transaction_read_only: keys can be read, and nothing can be written."""


async def database_state(engine: AsyncEngine) -> DatabaseState:
    """Read the state of the database; raises what SQLAlchemy raises. It is read-only only if no host accepts writes."""

    def read(connection: Connection) -> DatabaseState:
        read_only = bool(connection.execute(text(IS_READ_ONLY)).scalar())
        if not inspect(connection).has_table(_VERSION_TABLE):
            return DatabaseState(None, read_only)
        revision = connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
        return DatabaseState(revision, read_only)

    async def ask(first: bool) -> DatabaseState:
        async with engine.connect() as connection:
            state = await connection.run_sync(read)
        if first and state.read_only:
            raise ServerReadOnly
        return state

    return await ask_again(engine, ask)


async def current_revision(engine: AsyncEngine) -> str | None:
    """The database's revision; None for an empty database."""
    return (await database_state(engine)).revision


@cache
def _down_revisions() -> dict[str, str | None]:
    """Return the revision before each revision."""
    found: dict[str, str | None] = {}
    for file in (script_location() / "versions").glob("*.py"):
        fields: dict[str, str] = dict(_FIELD.findall(file.read_text(encoding="utf-8")))
        if revision := fields.get("revision"):
            found[revision] = fields.get("down_revision") or None
    return found
