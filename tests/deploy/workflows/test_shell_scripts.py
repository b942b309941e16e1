"""shellcheck finds nothing in any shell script, nor in the scripts inside the workflow files."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.support.paths import ROOT

SHELLCHECK = str(Path(sys.executable).parent / "shellcheck")
SHEBANG = re.compile(rb"#!\s*/(usr/)?bin/(env +)?(ba|da)?sh\b")


def scripts() -> list[str]:
    """Return every tracked file, and every new one that git does not ignore, that a shell runs."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    files = [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]
    return sorted(str(file) for file in files if SHEBANG.match(file.read_bytes()[:64]) or file.suffix == ".sh")


def shellcheck(*arguments: str, text: str | None = None) -> str:
    """Return what shellcheck finds."""
    done = subprocess.run([SHELLCHECK, *arguments], input=text, capture_output=True, text=True, timeout=300)
    return done.stdout + done.stderr


def test_shellcheck_finds_nothing_in_scripts() -> None:
    files = scripts()
    assert str(ROOT / ".ci/run") in files
    assert shellcheck("--external-sources", *files) == ""


def test_shellcheck_finds_nothing_in_workflows() -> None:
    for file in (ROOT / ".github/workflows").glob("*.yml"):
        for name, job in yaml.safe_load(file.read_text())["jobs"].items():
            steps = [step["run"] for step in job.get("steps", []) if "run" in step]
            for script in steps:
                assert shellcheck("--shell=bash", "-", text=script) == "", f"{file.name}: {name}"


def test_shellcheck_finds_an_unquoted_variable() -> None:
    assert "SC2086" in shellcheck("--shell=bash", "-", text="rm $1\n")
