"""Migrate a test's database. Alembic runs its own event loop, so each migration runs in a separate thread."""

import asyncio

from platform_app.db import migrations
from tests.support.timing.apart import run_apart


def migrate_up(url: str, revision: str = "head") -> None:
    """Upgrade the database to this revision."""
    run_apart(lambda: asyncio.to_thread(migrations.upgrade, url, revision))


def migrate_down(url: str, revision: str) -> None:
    """Downgrade the database to this revision."""
    run_apart(lambda: asyncio.to_thread(migrations.downgrade, url, revision))
