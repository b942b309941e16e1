"""A check as a line: one line, keys masked, colours unless NO_COLOR is set."""

import pytest

from apps.platform_cli.checks.output import line
from platform_app.readiness import Check

FAILED = Check("name", False, True, "two\nlines with sk-proj-4f6d81c0")


def test_line_is_coloured_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert line(FAILED).startswith("\x1b[")
    monkeypatch.setenv("NO_COLOR", "1")
    assert line(FAILED) == "FAIL  name                     two lines with sk-[masked]"
    assert line(Check("name", False, False, "x")).startswith("warn  ")
    assert line(Check("name", True, False, "x")).startswith("ok    ")
