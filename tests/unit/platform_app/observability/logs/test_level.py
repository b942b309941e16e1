"""The level of log lines changes while the process runs."""

import logging

from platform_app.observability.logging import get_logger
from platform_app.observability.logs.level import LOG_LEVEL
from tests.support.fakes.log_lines import Lines


def written(lines: Lines) -> set[str]:
    """Return the levels whose lines are written."""
    lines.raw.clear()
    log = get_logger("x")
    for level in ("debug", "info", "warning", "error"):
        getattr(log, level)("tried")
        log.log(logging.getLevelNamesMapping()[level.upper()], "tried")
    return {line["level"] for line in lines.all}


def test_level_change_applies_to_loggers_in_use(lines: Lines) -> None:
    LOG_LEVEL.configure("warning")
    assert written(lines) == {"warning", "error"}
    LOG_LEVEL.configure("debug")
    assert written(lines) == {"debug", "info", "warning", "error"}


def current() -> str:
    """Return the level in use."""
    return LOG_LEVEL.current


def test_level_signal_overrides_until_the_next_one(lines: Lines) -> None:
    LOG_LEVEL.configure("error")
    LOG_LEVEL.request_debug()
    assert current() == "error"
    LOG_LEVEL.apply_requested()
    assert current() == "debug"
    LOG_LEVEL.configure("warning", "config_file")
    assert current() == "debug"
    LOG_LEVEL.request_configured()
    LOG_LEVEL.apply_requested()
    assert current() == "warning"
    changes = [line for line in lines.all if line["event"] == "log_level_changed"]
    assert [(line["before"], line["after"], line["reason"]) for line in changes] == [
        ("error", "debug", "signal"),
        ("debug", "warning", "signal"),
    ]


def test_level_change_is_logged_whatever_the_level(lines: Lines) -> None:
    LOG_LEVEL.configure("error", "config_file")
    assert lines.last["event"] == "log_level_changed"
    assert (lines.last["before"], lines.last["after"]) == ("debug", "error")
    lines.raw.clear()
    LOG_LEVEL.configure("error", "config_file")
    assert not lines.raw
