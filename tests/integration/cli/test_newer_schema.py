"""The previous version on the schema of the next one: what a rollback needs."""

import pytest
from typer.testing import CliRunner

from apps.platform_cli.main import app
from apps.platform_cli.serve.command import _schema_problem
from platform_app.config import load_settings
from platform_app.db import migrations
from tests.conftest import Platform
from tests.support.gateway.keys_api import sql


@pytest.fixture
def newer(empty_database: str, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database whose revision this version does not know, as after a release that was rolled back."""
    migrations.upgrade(empty_database)
    sql(empty_database, "UPDATE alembic_version SET version_num = '9999'")
    for name, value in {**platform.environment, "PLATFORM_DATABASE_URL": empty_database}.items():
        monkeypatch.setenv(name, value)
    return empty_database


async def test_serve_starts_on_a_newer_schema(newer: str) -> None:
    assert await _schema_problem(load_settings()) is None


def test_migrate_up_leaves_a_newer_schema(newer: str) -> None:
    done = CliRunner().invoke(app, ["migrate", "up"])
    assert (done.exit_code, done.output) == (0, "The schema is at 9999, which a newer version made. Nothing to do.\n")


def test_migrate_status_asks_for_nothing_on_a_newer_schema(newer: str) -> None:
    done = CliRunner().invoke(app, ["migrate", "status"])
    assert done.exit_code == 0
    assert "The database is newer than this version, which serves on it." in done.output
    assert "migrate up" not in done.output


def test_migrate_contract_has_nothing_to_do() -> None:
    """The release lane calls it: `deploy/lane contract`."""
    done = CliRunner().invoke(app, ["migrate", "contract"])
    assert (done.exit_code, done.output) == (0, "This version has no contract migration. Nothing to do.\n")


async def test_serve_refuses_an_older_schema(empty_database: str, newer: str) -> None:
    sql(empty_database, "UPDATE alembic_version SET version_num = '0001'")
    problem = await _schema_problem(load_settings())
    assert problem is not None
    assert "at 0001, this version needs" in problem
