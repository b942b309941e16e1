"""Runs migrations on the connection that platform_app.db.migrations opened, or on PLATFORM_DATABASE_URL."""

from alembic import context
from sqlalchemy import Connection, text

from platform_app.config import load_settings
from platform_app.db.advisory_locks import AdvisoryLock
from platform_app.db.migrations import upgrade
from platform_app.db.models import Base
from platform_app.db.schema_changes import STATEMENT_TIMEOUT

LOCK_TIMEOUT = "5s"


def _migrate(connection: Connection) -> None:
    connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
    # Session-wide, so that it spans the transactions of all migrations; the connection's end releases it. The wait for
    # another migration ends with the statement's timeout.
    connection.execute(text("SET lock_timeout = 0"))
    connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": AdvisoryLock.MIGRATIONS})
    # A statement that waits for a lock makes every later statement on the table wait too.
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transaction_per_migration=True,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": AdvisoryLock.MIGRATIONS})
    connection.commit()


given = context.config.attributes.get("connection")
if given is None:
    # Alembic's own command line: the same path as `flowbiz-platform migrate up`.
    if context.is_offline_mode():
        raise SystemExit("Offline SQL is not supported; run: flowbiz-platform migrate up")
    settings = load_settings()
    upgrade(settings.database_url.get_secret_value(), ca_file=settings.database_ca_file)
else:
    _migrate(given)
