"""A copy of the tree in a temporary directory, where one mutant at a time is applied and tested."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.mutation.faults.mutant import Mutant
from tests.mutation.faults.named_faults import NamedFault
from tests.mutation.faults.python_faults import changed_lines
from tests.mutation.runs.coverage import EVERY_TEST
from tests.mutation.runs.worker import CANNOT_EXCHANGE
from tests.support.observability.rule_tests import split_rule_tests
from tests.support.paths import ROOT

SHORTEST_TIMEOUT = 20.0
"""Seconds that a mutant's tests may take at least: an endless loop ends here, and a slow machine does not."""
LONGEST = 600.0
"""Seconds for the tests of a module without a mutant."""
LONGEST_OF_A_FILE = 600.0
"""Seconds for the few tests of a named fault or of a script."""

_NO_IMPORT = ("ImportError while loading conftest", "ERROR: found no collectors for ")
"""Pytest's words where a conftest or a test module cannot be imported."""


@dataclass(frozen=True)
class Result:
    """What the tests said about a mutant."""

    caught: bool
    how: str
    """`failed`, `timeout`, `survived`, or `unreached` where no test executes the line."""


class TestsFailError(Exception):
    """The tests of a module fail without a mutant, so they say nothing about mutants."""

    __test__ = False  # pytest collects classes of this name otherwise


class Worker:
    """One process of `worker.py`."""

    def __init__(self, tree: Path, log: Path, *arguments: str) -> None:
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutation.runs.worker", arguments[0], str(log), *arguments[1:]],
            cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(tree)},
        )  # fmt: skip

    def run(self, tests: Sequence[str], timeout: float, **more: Any) -> tuple[int | None, float]:
        """Run a job; return its exit code, None for a timeout, and its seconds."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("the worker has no pipes")
        self._process.stdin.write(json.dumps({"tests": list(tests), "timeout": timeout, **more}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the worker ended:\n{self.log()}")
        result = json.loads(line)
        return result["code"], result["seconds"]

    def log(self) -> str:
        """Return the end of the output of the last job."""
        return self._log.read_text(errors="replace")[-5000:]

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


class Workshop:
    """The copy, and the worker that starts pytest in it for each mutant."""

    def __init__(self, directory: Path) -> None:
        self.tree = directory / "tree"
        self.directory = directory
        _copy(self.tree)
        self._fresh = Worker(self.tree, directory / "fresh.log", "fresh")

    def close(self) -> None:
        """End the worker."""
        self._fresh.close()

    def run_named(self, fault: NamedFault) -> Result:
        """Apply a fault of the list and run what must catch it."""
        mutant = fault.mutant(self.tree)
        result = self.run_promtool(mutant) if fault.promtool else self.run(mutant, fault.tests)
        return replace(
            result, caught=result.how == "failed"
        )  # none of them makes an endless loop: a timeout says nothing

    def run_promtool(self, mutant: Mutant) -> Result:
        """Apply the mutant of the alert rules and run promtool's tests of them."""
        alerts = self.tree / "alerts"
        with self._applied(mutant), tempfile.TemporaryDirectory() as directory:
            files = split_rule_tests(alerts / "platform.yml", alerts / "platform_test.yml", Path(directory))
            done = subprocess.run(["promtool", "test", "rules", *files], capture_output=True, check=False)
        return _result(done.returncode)

    def run(self, mutant: Mutant, tests: Sequence[str], timeout: float = LONGEST_OF_A_FILE) -> Result:
        """Apply the mutant to its file, start pytest on these tests, and restore the file."""
        with self._applied(mutant):
            code, _ = self._fresh.run(tests, timeout)
            if code == 4 and "ERROR: not found: " in self._fresh.log():  # a test's id has the constant that is mutated
                code, _ = self._fresh.run(list(dict.fromkeys(each.partition("[")[0] for each in tests)), timeout)
        no_import = code == 4 and any(sign in self._fresh.log() for sign in _NO_IMPORT)
        if code not in (None, 0, 1, 2) and not no_import:  # a timeout, passed, failed, an import of a test that fails
            raise AssertionError(f"pytest ended with {code} on {mutant}:\n{self._fresh.log()}")
        return _result(code)

    def require_pass(self, tests: Sequence[str]) -> None:
        """Run tests without a mutant.

        Raises:
            TestsFailError: one of them fails.
        """
        code, _ = self._fresh.run(tests, LONGEST)
        if code != 0:
            raise TestsFailError(f"tests fail without a mutant:\n{self._fresh.log()}")

    @contextmanager
    def _applied(self, mutant: Mutant) -> Iterator[None]:
        file = self.tree / mutant.path
        original = file.read_text()
        _write(file, mutant.text)
        try:
            yield
        finally:
            _write(file, original)


class ModuleBench:
    """The tests of one module, collected, with the lines that each executes."""

    def __init__(self, workshop: Workshop, path: str, tests: Sequence[str]) -> None:
        self._workshop = workshop
        self._live = Worker(workshop.tree, workshop.directory / "live.log", "live", str(workshop.tree / path), *tests)
        lines = workshop.directory / "lines.json"
        code, seconds = self._live.run([], LONGEST, lines=str(lines))
        if code not in (0, 1):
            raise AssertionError(f"the tests of {path} cannot be run:\n{self._live.log()}")
        found = json.loads(lines.read_text())
        self._lines: dict[int, list[str]] = {int(line): names for line, names in found["lines"].items()}
        self._tests: list[str] = found["passed"]
        self._fresh_only: list[str] = found["failed"]
        """Tests that need a new process, for example those that look at the first log line."""
        if self._fresh_only:
            try:
                workshop.require_pass(self._fresh_only)
            except TestsFailError:
                self.close()
                raise
        self._timeout = max(SHORTEST_TIMEOUT, 3 * seconds)

    def close(self) -> None:
        """End the worker."""
        self._live.close()

    def run(self, mutant: Mutant) -> Result:
        """Run the tests that reach the mutant's lines."""
        lines = list(changed_lines((self._workshop.tree / mutant.path).read_text(), mutant.text))
        tests = self._tests_of(lines) if mutant.live else self._tests
        if not tests and not self._fresh_only:
            return Result(False, "unreached")
        if mutant.live and tests:
            code, _ = self._live.run(tests, self._timeout, text=mutant.text)
            if code not in (None, 0, 1, CANNOT_EXCHANGE):
                raise AssertionError(f"the worker failed on {mutant}:\n{self._live.log()}")
            if code in (None, 1) or (code == 0 and not self._fresh_only):
                return _result(code)
            if code == 0:
                tests = []
        return self._workshop.run(mutant, [*tests, *self._fresh_only], self._timeout + SHORTEST_TIMEOUT)

    def _tests_of(self, lines: Sequence[int]) -> list[str]:
        """Return the tests that execute any of these lines, in the order of the run."""
        wanted = {test for line in lines for test in self._lines.get(line, [])}
        return self._tests if EVERY_TEST in wanted else [test for test in self._tests if test in wanted]


@contextmanager
def open_workshop() -> Iterator[Workshop]:
    """Copy the tree, and remove the copy at the end."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as directory, closing(Workshop(Path(directory))) as workshop:
        yield workshop


def _result(code: int | None) -> Result:
    if code is None:
        return Result(True, "timeout")
    return Result(code != 0, "failed" if code else "survived")


def _write(file: Path, text: str) -> None:
    """Write without a trace in the cache of compiled modules: its key is a time in whole seconds and the size."""
    file.write_text(text)
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        compiled.unlink()


def _copy(tree: Path) -> None:
    """Copy what Git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        source = ROOT / name
        if source.is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, tree / name)
