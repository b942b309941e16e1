"""The code of the last commit that needs the previous revision of the schema, as a release before this one has it."""

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

from alembic.script import ScriptDirectory

from platform_app.db import migrations
from tests.support.paths import ROOT


def previous_revision() -> str:
    """Return the revision below the newest one."""
    return migrations.revisions_in_order()[-2]


def write_previous_release(directory: Path) -> bool:
    """Write that code into the directory. Return whether git's history has it."""
    commit = _git("log", "--diff-filter=A", "--format=%H", "-1", "--", str(_newest_migration()))
    if commit is None:
        return False
    # Without a commit that adds the migration, it is new in the working tree.
    archive = _git("archive", "--format=tar", f"{commit.decode().strip()}^" if commit.strip() else "HEAD")
    if archive is None:
        return False
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(directory, filter="data")
    return True


def _newest_migration() -> Path:
    script = ScriptDirectory(str(migrations.script_location())).get_revision(migrations.head_revision())
    assert script is not None
    return Path(script.path)


def _git(*arguments: str) -> bytes | None:
    """Return the output; None if there is no git, no repository, or no such commit."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False, timeout=60)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
