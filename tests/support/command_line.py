"""Run `flowbiz-platform` in a separate process, as operators do."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PEPPER = "9f" * 32


@dataclass(frozen=True)
class Outcome:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The output as JSON."""
        return json.loads(self.out)

    @property
    def all(self) -> str:
        """Both outputs."""
        return self.out + self.err


def cli(environment: Mapping[str, str], *arguments: str) -> Outcome:
    """Run `flowbiz-platform` with this environment and no other; a traceback is always a failure."""
    done = subprocess.run(
        [sys.executable, "-m", "apps.platform_cli", *arguments],
        env={"PATH": os.environ.get("PATH", ""), "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    outcome = Outcome(done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in outcome.all, outcome.all
    assert PEPPER not in outcome.all
    assert "pa55word" not in outcome.all
    return outcome


def check_marks(outcome: Outcome) -> dict[str, str]:
    """Return the marks of the lines of `check` by the names of the checks."""
    return {line[6:30].strip(): line[:4].strip() for line in outcome.out.splitlines()}
