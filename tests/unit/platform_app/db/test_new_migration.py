"""`flowbiz-platform migrate new` writes a file that the gateway takes for the next revision."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from platform_app.db import migrations, revisions


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the migrations, which is read in place of ours."""
    copy = tmp_path / "migrations"
    shutil.copytree(revisions.script_location(), copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(migrations, "script_location", lambda: copy)
    monkeypatch.setattr(revisions, "script_location", lambda: copy)
    revisions._down_revisions.cache_clear()
    yield copy
    revisions._down_revisions.cache_clear()


def test_new_migration_is_the_head(checkout: Path) -> None:
    before = revisions.head_revision()
    file = migrations.new('Note "who" asked')
    number = f"{int(before) + 1:04d}"
    assert file == checkout / "versions" / f"{number}_note_who_asked.py"
    compile(file.read_text(), str(file), "exec")
    revisions._down_revisions.cache_clear()
    assert revisions.head_revision() == number
    assert migrations.revisions_in_order()[-2:] == [before, number]


def test_second_new_migration_follows_the_first(checkout: Path) -> None:
    migrations.new("one")
    revisions._down_revisions.cache_clear()
    assert migrations.new("two").name.removesuffix("_two.py") > revisions.head_revision()
