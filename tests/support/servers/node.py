"""Node.js and the npm packages that tests run with it, installed once by the lock file."""

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PROJECT = ROOT / "tests" / "clients" / "node"
LOCK = PROJECT / "package-lock.json"
INSTALL_SECONDS = 300


def installed_modules() -> Path:
    """The `node_modules` directory, which git ignores, as the lock file says; `npm ci` runs only when that changed.

    Skips the test where a program is missing.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    with LOCK.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests in other processes install too
        return _installed()


def _installed() -> Path:
    modules = PROJECT / "node_modules"
    marker = modules / ".installed-lock"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not marker.is_file() or marker.read_text() != wanted:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(
            command, cwd=PROJECT, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
        marker.write_text(wanted)
    return modules


def run_node(script: Path, environment: dict[str, str], seconds: float = 300) -> str:
    """Run a script that must end with exit code 0; what it wrote."""
    done = subprocess.run(
        ["node", str(script)],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
