"""`migrate up`: the revision that it names is the schema's, and grants that fail are not missed."""

import pytest

from apps.platform_cli.main import app
from apps.platform_cli.terminal.entry import run_app
from platform_app.db import migrations
from platform_app.db.migrations import head_revision
from tests.conftest import Platform
from tests.support.commands.command_line import cli


@pytest.fixture
def empty(platform: Platform, empty_database: str) -> dict[str, str]:
    """A good configuration on a database without tables."""
    return {**platform.environment, "PLATFORM_DATABASE_URL": empty_database}


def test_migrate_up_names_the_revision_of_the_schema(empty: dict[str, str]) -> None:
    first = cli(empty, "migrate", "up", "--revision", "0001")
    assert (first.code, first.out.splitlines()[0]) == (0, "The schema is at 0001.")
    assert cli(empty, "migrate", "up").out.startswith(f"The schema is at {head_revision()}.\n")
    assert cli(empty, "migrate", "up", "--revision", head_revision()).code == 0
    lower = cli(empty, "migrate", "up", "--revision", "0001")
    assert (lower.code, lower.out) == (1, "")
    assert lower.err == f"The schema is at {head_revision()}, above 0001. To go down: migrate down 0001\n"


def test_migrate_up_whose_grants_fail_fails_once(
    empty: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A release shows stdout, so the reason is there. The second run is for operators whose own script grants."""

    def refused(*_: object, **__: object) -> str:
        raise TimeoutError

    for name, value in empty.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(migrations, "grant", refused)
    assert run_app(app, ["migrate", "up"]) == 1
    said = capsys.readouterr()
    schema, reason = said.out.splitlines()
    assert schema == f"The schema is at {head_revision()}."
    assert reason.startswith("The runtime role was not granted its rights: ")
    assert said.err.startswith("The schema is migrated. Run deploy/roles.sql")
    assert run_app(app, ["migrate", "up"]) == 0
    assert "not granted" in capsys.readouterr().out
