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


def previous_release() -> str | None:
    """Return the commit of that code; None if this checkout does not have it, as a shallow clone."""
    added = _git("log", "--diff-filter=A", "--format=%H", "-1", "--", str(_newest_migration()))
    if added is None:
        return None
    # Without a commit that adds the migration, it is new in the working tree.
    commit = f"{added.decode().strip()}^" if added.strip() else "HEAD"
    return None if _git("cat-file", "-e", commit) is None else commit


def write_release(commit: str, directory: Path) -> None:
    """Write the code of a commit into the directory."""
    archive = _git("archive", "--format=tar", commit)
    assert archive is not None
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(directory, filter="data")


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
