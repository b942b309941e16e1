"""Programs that check files of deploy/; a test is skipped where one is missing."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

import pytest

from tests.support.paths import ROOT

DEPLOY = ROOT / "deploy"
_PATH = f"{ROOT / '.venv/bin'}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def program(name: str, package: str) -> str:
    """Return the path of an installed program, or skip the test with the Debian package to install."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {package})")
    return found


def run(
    arguments: Sequence[object], environment: Mapping[str, str] | None = None, seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a program in the checkout and return what became of it, whatever its exit code."""
    return subprocess.run(
        [str(argument) for argument in arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": _PATH, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def output_of(arguments: Sequence[object], environment: Mapping[str, str] | None = None, seconds: float = 300) -> str:
    """Run a program that must succeed; return what it wrote to stdout."""
    done = run(arguments, environment, seconds)
    assert done.returncode == 0, f"{' '.join(map(str, arguments))}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
