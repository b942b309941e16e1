"""The README's examples, run as they stand against `flowbiz-platform dev`."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.platform_cli.embedded.child import ChildProcess
from tests.support.paths import ROOT
from tests.support.servers.network.ports import free_port
from tests.support.servers.node import installed_modules

BLOCKS = re.findall(r"^```(bash|python|javascript)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with `.data` of a running `dev` and `.venv`, as the README's reader has them."""
    directory = tmp_path_factory.mktemp("readme")
    (directory / ".venv").symlink_to(sys.prefix)
    arguments = ["--data-dir", ".data", "--port", str(free_port()), "--metrics-port", str(free_port())]
    dev = ChildProcess(
        "dev",
        [sys.executable, "-m", "apps.platform_cli", "dev", *arguments],
        log_file=directory / "dev.log",
        cwd=directory,
        env={name: value for name, value in os.environ.items() if not name.startswith(("PLATFORM_", "OPENAI_"))},
    )
    try:
        dev.wait_ready(lambda: "\nready in" in (directory / "dev.log").read_text(), 60)
        yield directory
    finally:
        dev.stop(grace_seconds=30)


def test_readme_has_an_example_in_each_language() -> None:
    assert {language for language, _ in BLOCKS} == {"bash", "python", "javascript"}


@pytest.mark.parametrize(("language", "code"), BLOCKS, ids=[f"{n}-{block[0]}" for n, block in enumerate(BLOCKS)])
def test_readme_example_runs(home: Path, language: str, code: str) -> None:
    program = {"bash": "bash", "python": sys.executable, "javascript": "node"}[language]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    endings = {"bash": "sh", "python": "py", "javascript": "mjs"}
    if 'from "openai"' in code and not (home / "node_modules").exists():
        (home / "node_modules").symlink_to(installed_modules())
    script = home / f"example.{endings[language]}"
    script.write_text(f"set -euo pipefail\n{code}" if language == "bash" else code)

    source = f"set -a; . .data/dev.env; set +a; exec {program} {script.name}"
    done = subprocess.run(["bash", "-c", source], cwd=home, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert '"error"' not in done.stdout
    expected = "fbp_test_" if "keys create" in code else "You said"
    assert expected in done.stdout, done.stdout
