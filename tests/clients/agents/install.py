"""The agents' programs, installed from the npm registry into a folder."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

PACKAGES: Mapping[str, str] = {"@openai/codex": "0.171.0", "@anthropic-ai/claude-code": "2.1.197"}
"""The versions whose transcript docs/agents.md shows."""
INSTALL_SECONDS = 900


class CannotInstallError(Exception):
    """A program is missing, or npm failed."""


def install(directory: Path, versions: Mapping[str, str]) -> Path:
    """Install the packages and return the folder of their programs.

    Raises:
        CannotInstallError: npm or Node.js is missing, or an installation failed.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise CannotInstallError(f"{program} is not installed; `make agents` needs Node.js with npm")
    (directory / "package.json").write_text(json.dumps({"private": True, "dependencies": dict(versions)}))
    _run(directory, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error")
    # Its only script copies the program for this machine out of a package that npm has installed.
    _run(directory / "node_modules/@anthropic-ai/claude-code", "node", "install.cjs")
    return directory / "node_modules/.bin"


def _run(directory: Path, *command: str) -> None:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )  # fmt: skip
    if done.returncode:
        raise CannotInstallError(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
