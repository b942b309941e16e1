"""Pytest plugin: record which tests execute which lines of one file.

A mutant then runs only the tests that reach its line. Lines that run outside a test (imports, fixtures that several
tests share) belong to every test. `sys.settrace` sees functions of the one file only, so everything else runs at full
speed but for one call per function.
"""

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

EVERY_TEST = "*"


class LineCoverage:
    """Records line → tests for one file, and writes it at the end of the run."""

    def __init__(self, file: Path) -> None:
        self._file = str(file)
        self._test = EVERY_TEST
        self._lines: dict[int, dict[str, None]] = {}
        self._passed: list[str] = []
        self._failed: dict[str, None] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        """Attribute what a fixture of several tests executes to every test."""
        self._test = EVERY_TEST
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        """Attribute what a fixture of one test executes to that test."""
        before, self._test = self._test, request.node.nodeid if fixturedef.scope == "function" else EVERY_TEST
        try:
            return (yield)
        finally:
            self._test = before

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Attribute what a test executes to it."""
        self._test = item.nodeid
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the names of the tests that pass, and of those that fail: the workshop runs these in a new process."""
        if report.failed:
            self._failed[report.nodeid] = None
        elif report.when == "call" and report.passed:
            self._passed.append(report.nodeid)

    def start(self) -> None:
        """Trace this thread and those that start from now on."""
        threading.settrace(self._trace)
        sys.settrace(self._trace)

    def write(self, result: Path) -> None:
        """Write the lines and the tests that passed."""
        sys.settrace(None)
        lines = {line: list(tests) for line, tests in self._lines.items()}
        result.write_text(json.dumps({"lines": lines, "passed": self._passed, "failed": list(self._failed)}))

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != self._file:
            return None
        self._lines.setdefault(frame.f_lineno, {})[self._test] = None
        return self._trace_lines

    def _trace_lines(self, frame: FrameType, event: str, argument: object) -> Any:
        self._lines.setdefault(frame.f_lineno, {})[self._test] = None
        return self._trace_lines
