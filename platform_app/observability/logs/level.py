"""The level of log lines, which can change while the process runs.

The configured level comes from the environment or the config file. An operator can override it with `debug` by a
signal, until the next SIGHUP. A signal handler only notes what is requested (`request_debug`, `request_configured`): it
can interrupt code that holds a lock, so `apply_requested` makes the change later.
"""

import logging
import signal
from typing import Any, Literal

import structlog

DEBUG_SIGNAL = signal.SIGUSR1
"""Overrides the level with `debug`. (SIGUSR2 makes a hung worker dump its stack.)"""
Level = Literal["debug", "info", "warning", "error"]
_METHODS = (
    "debug", "info", "warning", "warn", "error", "exception", "critical", "fatal", "msg", "log",
    "is_enabled_for", "get_effective_level",
)  # fmt: skip


class LeveledLogger(structlog.make_filtering_bound_logger(logging.NOTSET)):  # type: ignore[misc]  # made at run time
    """structlog's logger. A change of level replaces its methods; those below the level do nothing."""


class LogLevel:
    """The level of one process: what is configured, and whether `debug` overrides it."""

    def __init__(self) -> None:
        self._configured: Level = "info"
        self._debug = False
        self._requested: bool | None = None
        self.shows_info = True
        """Whether lines of the level info are written."""

    @property
    def current(self) -> Level:
        """Return the level in use."""
        return "debug" if self._debug else self._configured

    @property
    def debug(self) -> bool:
        """Return whether `debug` overrides the configured level."""
        return self._debug

    def configure(self, level: Level, reason: str | None = None) -> None:
        """Use this level from now on, or once `debug` no longer overrides it. Log a change if `reason` is given."""
        before, self._configured = self.current, level
        self._use(before, reason)

    def request_debug(self) -> None:
        """Request `debug`. Safe in a signal handler."""
        self._requested = True

    def request_configured(self) -> None:
        """Request the configured level. Safe in a signal handler."""
        self._requested = False

    def apply_requested(self) -> None:
        """Make the change that a signal requested, if there is one."""
        if self._requested is not None:
            before, self._debug, self._requested = self.current, self._requested, None
            self._use(before, "signal")

    def reset(self, level: Level) -> None:
        """Use this level, without override."""
        self._debug, self._requested = False, None
        self.configure(level)

    def _use(self, before: Level, reason: str | None) -> None:
        current = self.current
        number = logging.getLevelNamesMapping()[current.upper()]
        self.shows_info = number <= logging.INFO
        source = structlog.make_filtering_bound_logger(number)
        for name in _METHODS:
            if hasattr(source, name):
                setattr(LeveledLogger, name, getattr(source, name))
        # Libraries log from `warning` on: their debug lines contain statements and headers.
        logging.getLogger().setLevel(max(number, logging.WARNING))
        logging.getLogger("uvicorn").setLevel(number)
        if reason is not None and before != current:
            log: Any = structlog.get_logger(component="logging")
            log.log(max(number, logging.WARNING), "log_level_changed", before=before, after=current, reason=reason)


LOG_LEVEL = LogLevel()
"""The level of this process. The loggers of the process are global, and so is their level."""
