"""`migrate`: what it asks before rows are lost, the grants at its end, and schemas other than `public`."""

import asyncio
import os
import subprocess

import pytest

from platform_app.db import migrations
from platform_app.db.schema_changes import DROPPED
from tests.support.commands.command_line import run_command
from tests.support.gateway.migrate import migrate_down, migrate_up
from tests.support.ledger.database import ROLES, as_role, connected
from tests.support.timing.apart import run_apart


def run(url: str, *arguments: str, env: str = "dev") -> "subprocess.CompletedProcess[str]":
    environment = {
        "PATH": os.environ["PATH"],
        "PLATFORM_ENV": env,
        "PLATFORM_DATABASE_URL": url,
        "PLATFORM_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    return run_command(environment, "migrate", *arguments)


async def execute(url: str, *statements: str) -> None:
    async with connected(url) as connection:
        for statement in statements:
            await connection.execute(statement)


async def test_down_lists_rows_and_needs_consent(own_url: str) -> None:
    await execute(own_url, "INSERT INTO audit_events (actor, action, target) VALUES ('a', 'b', 'c')")
    refused = await asyncio.to_thread(run, own_url, "down", "base")
    assert refused.returncode == 1
    assert "goes: audit_events (1 row)" in refused.stderr
    assert "--yes" in refused.stderr
    production = await asyncio.to_thread(run, own_url, "down", "base", "--yes", env="production")
    assert production.returncode == 1
    assert "--force" in production.stderr
    unknown = await asyncio.to_thread(run, own_url, "down", "0042")
    assert "0001, 0002" in unknown.stderr
    done = await asyncio.to_thread(run, own_url, "down", "base", "--yes")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("revision", list(DROPPED))
def test_dropped_names_are_what_the_revision_drops(empty_database: str, revision: str) -> None:
    order = migrations.revisions_in_order()
    assert order == list(DROPPED)
    migrate_up(empty_database, revision)
    before = run_apart(lambda: _columns(empty_database))
    index = order.index(revision)
    migrate_down(empty_database, order[index - 1] if index else "base")
    gone = before - run_apart(lambda: _columns(empty_database))
    tables_left = {table for table, _ in before - gone}
    names = {table if table not in tables_left else f"{table}.{column}" for table, column in gone}
    assert names - {"alembic_version"} == set(DROPPED[revision])


async def _columns(url: str) -> set[tuple[str, str]]:
    query = """
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name !~ '_[0-9]{8}$'
    """
    async with connected(url) as connection:
        return {(row[0], row[1]) for row in await connection.fetch(query)}


async def test_roles_apply_in_another_schema(empty_database: str) -> None:
    """The file finds the schema of the tables, and `migrate up` as the owner grants at its end."""
    elsewhere = f"{empty_database}{'&' if '?' in empty_database else '?'}options=-c%20search_path%3Dplace"
    await execute(empty_database, "CREATE SCHEMA place")
    await execute(empty_database, "SET search_path = place", ROLES.read_text())
    done = await asyncio.to_thread(run, as_role(elsewhere, "flowbiz_platform_owner"), "up")
    assert done.returncode == 0, done.stderr
    assert "flowbiz_platform_runtime has its rights" in done.stdout
    async with connected(as_role(empty_database, "flowbiz_platform_runtime")) as runtime:
        assert await runtime.fetchval("SELECT count(*) FROM place.api_keys") == 0
    await execute(empty_database, "REVOKE ALL ON place.api_keys FROM flowbiz_platform_runtime", ROLES.read_text())
    async with connected(as_role(empty_database, "flowbiz_platform_runtime")) as runtime:
        assert await runtime.fetchval("SELECT count(*) FROM place.api_keys") == 0
