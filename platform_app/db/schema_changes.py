"""What migrations take away when they run down, and what the runtime role may do after they ran up."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sqlalchemy import Connection, text

from platform_app.db.advisory_locks import AdvisoryLock

RUNTIME_ROLE = "flowbiz_platform_runtime"
STATEMENT_TIMEOUT = "10min"
"""Timeout of each statement that changes the schema or rights, and of the wait for other migrations."""

DROPPED = MappingProxyType(
    {
        "0001": ("api_keys", "api_key_secrets", "audit_events"),
        "0002": ("access_decisions",),
        "0003": ("usage_records", "usage_daily"),
        "0004": (),
        "0005": ("access_decisions.count",),
        "0006": ("usage_records.provider_usage",),
        "0007": (
            "access_decisions.attempts",
            "access_decisions.hops",
            "access_decisions.model",
            "access_decisions.owner",
            "usage_records.upstream_request_id",
        ),
        "0008": ("usage_records.requested_model", "usage_records.session"),
    }
)
"""By revision: the tables and columns that go when it runs down."""

GRANTS = MappingProxyType(
    {
        "api_keys": "SELECT, INSERT, UPDATE",
        "api_key_secrets": "SELECT, INSERT, UPDATE, DELETE",
        "audit_events": "SELECT, INSERT",
        "access_decisions": "SELECT, INSERT",
        "usage_records": "SELECT, INSERT",
        "usage_daily": "SELECT",
        "alembic_version": "SELECT",
    }
)
"""What the runtime role may do, as in deploy/roles.sql."""
FUNCTIONS = ("ledger_create_partition(text, date)", "ledger_drop_partitions(text, date)", "usage_drop_totals(date)")


@dataclass(frozen=True, slots=True)
class Loss:
    """A table or a column that goes, and its rows (of a column: those with a value)."""

    name: str
    rows: int


def find_losses(connection: Connection, revisions: Sequence[str]) -> list[Loss]:
    """Return what goes when these revisions run down."""
    names = [name for revision in revisions for name in DROPPED.get(revision, ())]
    tables = {name for name in names if "." not in name}
    kept = [name for name in names if name in tables or name.partition(".")[0] not in tables]
    return [Loss(name, _rows(connection, name)) for name in sorted(kept)]


def _rows(connection: Connection, name: str) -> int:
    table, _, column = name.partition(".")
    counted = f'"{column}"' if column else "*"
    return int(connection.execute(text(f"SELECT count({counted}) FROM {table}")).scalar_one())  # noqa: S608 - our names


def grant_runtime_role(connection: Connection) -> str:
    """Give the runtime role its rights on what exists, if there is such a role. Return what was done.

    Migrations wait until the transaction ends, and it waits for theirs: of two that change the rights on a table at
    the same time, PostgreSQL fails one (`tuple concurrently updated`).
    """
    connection.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
    connection.execute(text("SET LOCAL lock_timeout = 0"))  # the statement's timeout ends the wait
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": AdvisoryLock.MIGRATIONS})
    exists = text("SELECT 1 FROM pg_roles WHERE rolname = :role")
    if connection.execute(exists, {"role": RUNTIME_ROLE}).scalar() is None:
        return f"There is no role {RUNTIME_ROLE}, so nothing was granted. deploy/roles.sql makes it."
    for table, rights in GRANTS.items():
        if _exists(connection, "to_regclass", table):
            connection.execute(text(f"REVOKE ALL ON {table} FROM PUBLIC, {RUNTIME_ROLE}"))
            connection.execute(text(f"GRANT {rights} ON {table} TO {RUNTIME_ROLE}"))
    for function in FUNCTIONS:
        if _exists(connection, "to_regprocedure", function):
            connection.execute(text(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC"))
            connection.execute(text(f"GRANT EXECUTE ON FUNCTION {function} TO {RUNTIME_ROLE}"))
    return f"The role {RUNTIME_ROLE} has its rights."


def _exists(connection: Connection, how: str, name: str) -> bool:
    return connection.execute(text(f"SELECT {how}(:name)"), {"name": name}).scalar() is not None
