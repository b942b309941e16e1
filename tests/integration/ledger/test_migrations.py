"""The schema on a real PostgreSQL: up, down, up again, and what the database itself enforces."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from platform_app.db import migrations
from platform_app.db.models import Base
from tests.support.gateway.migrate import migrate_down, migrate_up
from tests.support.ledger.database import set_up_roles
from tests.support.timing.apart import run_apart

T = TypeVar("T")

REVISIONS = [
    script.revision for script in reversed(list(ScriptDirectory(str(migrations.script_location())).walk_revisions()))
]

SCHEMA = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
               pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0
              AND NOT a.attisdropped
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND contype NOT IN ('t', 'n')
    """,
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "partitioned": """
        SELECT c.relname, pg_get_partkeydef(c.oid) FROM pg_class c WHERE c.relkind = 'p'
    """,
}
BEYOND_MODELS = {
    "triggers": "SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "functions": """
        SELECT proname, pg_get_functiondef(oid), proacl::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    """,
    "sequences": "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'",
    "types": """
        SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd', 'c')
               AND typrelid NOT IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'p', 'i', 'I', 'S'))
    """,
}

INSERT_KEY = """
    INSERT INTO api_keys (key_id, name, owner, environment, scopes, created_by)
    VALUES ('abcdefABC123', 'n', 'o', 'test', ARRAY['platform:chat'], 'tests')
"""
INSERT_SECRET = """
    INSERT INTO api_key_secrets (digest, key_id, pepper_version)
    VALUES (decode(repeat('ab', 32), 'hex'), 'abcdefABC123', 1)
"""
INSERT_AUDIT = "INSERT INTO audit_events (actor, action, target) VALUES ('tests', 'api_key.create', 'abcdefABC123')"


def on(url: str, work: Callable[[Connection], T]) -> T:
    """Run `work` on a separate connection, and commit."""

    async def main() -> T:
        engine = create_async_engine(url, poolclass=NullPool)
        async with engine.begin() as connection:
            return await connection.run_sync(work)

    return run_apart(main)


def run(url: str, *statements: str) -> None:
    def work(connection: Connection) -> None:
        for statement in statements:
            connection.execute(text(statement))

    on(url, work)


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    return on(url, lambda connection: sorted(map(tuple, connection.execute(text(statement))), key=repr))


def schema(url: str, parts: dict[str, str]) -> dict[str, list[tuple[Any, ...]]]:
    """What there is, but Alembic's own table."""
    found = {name: rows(url, statement) for name, statement in parts.items()}
    return {name: [row for row in part if "alembic_version" not in repr(row)] for name, part in found.items()}


def everything(url: str) -> dict[str, list[tuple[Any, ...]]]:
    return schema(url, SCHEMA | BEYOND_MODELS)


def test_revisions_are_one_line_from_base_to_head() -> None:
    directory = ScriptDirectory(str(migrations.script_location()))
    assert directory.get_heads() == [migrations.head_revision()]
    assert directory.get_bases() == [REVISIONS[0]]


def test_models_and_migrations_agree(empty_database: str) -> None:
    migrate_up(empty_database)

    def compare(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))

    assert on(empty_database, compare) == []


def test_constraints_and_indexes_agree_too(empty_database: str) -> None:
    """Alembic's comparison looks at no CHECK and at no partitioning."""
    migrate_up(empty_database)
    migrated = schema(empty_database, SCHEMA)
    run(empty_database, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    on(empty_database, lambda connection: Base.metadata.create_all(connection))
    assert schema(empty_database, SCHEMA) == migrated
    assert len(migrated["columns"]) > 20


def test_down_to_base_leaves_nothing_and_up_again_gives_the_same(empty_database: str) -> None:
    before = everything(empty_database)
    migrate_up(empty_database)
    first = everything(empty_database)
    assert first != before
    migrate_down(empty_database, "base")
    assert everything(empty_database) == before
    assert rows(empty_database, "SELECT * FROM alembic_version") == []
    migrate_up(empty_database)
    assert everything(empty_database) == first


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_step_can_be_undone_and_done_again(empty_database: str, revision: str) -> None:
    index = REVISIONS.index(revision)
    before_revision = REVISIONS[index - 1] if index else "base"
    if index:
        migrate_up(empty_database, before_revision)
    before = everything(empty_database)
    migrate_up(empty_database, revision)
    after = everything(empty_database)
    assert after != before
    migrate_down(empty_database, before_revision)
    assert everything(empty_database) == before
    migrate_up(empty_database, revision)
    assert everything(empty_database) == after


def test_down_and_up_with_data_in_the_tables(empty_database: str) -> None:
    migrate_up(empty_database)
    run(empty_database, INSERT_KEY, INSERT_SECRET, INSERT_AUDIT)
    migrate_down(empty_database, REVISIONS[0])
    kept = "SELECT key_id, count(*) FROM api_keys JOIN api_key_secrets USING (key_id) GROUP BY key_id"
    assert rows(empty_database, kept) == [("abcdefABC123", 1)]
    migrate_up(empty_database)
    assert rows(empty_database, kept) == [("abcdefABC123", 1)]
    assert rows(empty_database, "SELECT target FROM audit_events") == [("abcdefABC123",)]
    migrate_down(empty_database, "base")
    migrate_up(empty_database)
    assert rows(empty_database, "SELECT * FROM api_keys") == []


def test_up_at_head_changes_nothing(empty_database: str) -> None:
    migrate_up(empty_database)
    run(empty_database, INSERT_KEY)
    before = everything(empty_database)
    migrate_up(empty_database)
    assert everything(empty_database) == before
    assert len(rows(empty_database, "SELECT * FROM api_keys")) == 1


def test_failed_step_leaves_the_revision_before(empty_database: str) -> None:
    migrate_up(empty_database, REVISIONS[0])
    # In the way of the second migration.
    run(empty_database, "CREATE TABLE access_decisions (x int)")
    before = everything(empty_database)
    with pytest.raises(DBAPIError):
        migrate_up(empty_database)
    assert everything(empty_database) == before
    assert rows(empty_database, "SELECT version_num FROM alembic_version") == [(REVISIONS[0],)]
    run(empty_database, "DROP TABLE access_decisions")
    migrate_up(empty_database)
    assert rows(empty_database, "SELECT version_num FROM alembic_version") == [(migrations.head_revision(),)]


def test_migrations_at_the_same_time_take_turns(empty_database: str) -> None:
    """With their grants: PostgreSQL fails one of two that change a table's rights together."""
    set_up_roles(empty_database)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PLATFORM_DATABASE_URL": empty_database,
        "PLATFORM_REDIS_URL": "redis://127.0.0.1:1",
    }
    command = [sys.executable, "-m", "apps.platform_cli", "migrate", "up"]
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    outcomes = [(process.communicate(timeout=300)[0], process.returncode) for process in started]
    assert [code for _, code in outcomes] == [0, 0, 0], outcomes
    assert rows(empty_database, "SELECT version_num FROM alembic_version") == [(migrations.head_revision(),)]
    held = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database WHERE locktype = 'advisory'"
    assert rows(empty_database, f"{held} AND datname = current_database()") == [(0,)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET actor = 'nobody'",
        "UPDATE audit_events SET actor = actor WHERE false",
        "DELETE FROM audit_events",
        "DELETE FROM audit_events WHERE id = -1",
        "TRUNCATE audit_events",
        "TRUNCATE audit_events RESTART IDENTITY CASCADE",
        "INSERT INTO audit_events (id, actor, action, target) VALUES (1, 'a', 'b', 'c')",
        "INSERT INTO audit_events SELECT * FROM audit_events ON CONFLICT (id) DO UPDATE SET actor = 'nobody'",
        "MERGE INTO audit_events a USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
    ],
)
def test_audit_only_grows(empty_database: str, statement: str) -> None:
    migrate_up(empty_database)
    run(empty_database, INSERT_AUDIT)
    before = rows(empty_database, "SELECT * FROM audit_events")
    with pytest.raises(DBAPIError, match=r"append-only|GENERATED ALWAYS|generated always|non-DEFAULT"):
        run(empty_database, statement)
    assert rows(empty_database, "SELECT * FROM audit_events") == before
    run(empty_database, INSERT_AUDIT)
    assert len(rows(empty_database, "SELECT * FROM audit_events")) == 2


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        (INSERT_KEY.replace("abcdefABC123", "short"), "ck_api_keys_key_id"),
        (INSERT_KEY.replace("abcdefABC123", "abcdefABC12_"), "ck_api_keys_key_id"),
        (INSERT_KEY.replace("'test'", "'prod'"), "ck_api_keys_environment"),
        (INSERT_SECRET.replace("32)", "31)"), "ck_api_key_secrets_digest"),
        (INSERT_SECRET, "fk_api_key_secrets_key_id"),
    ],
)
def test_database_refuses_impossible_rows(empty_database: str, statement: str, constraint: str) -> None:
    migrate_up(empty_database)
    with pytest.raises(DBAPIError, match=f'"{constraint}"'):
        run(empty_database, statement)
