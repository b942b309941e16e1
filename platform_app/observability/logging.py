"""Structured logs: one JSON object per line on stdout, with the request that the line belongs to.

Lines of standard-library loggers (uvicorn's, SQLAlchemy's) have the same form. Keys and the values of known secrets are
masked in the finished line, as a last safeguard: no code should log one. `logs/` has the parts.
"""

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, WrappedLogger

from platform_app.credential_forms import mask_credentials
from platform_app.observability import metrics
from platform_app.observability.context import RequestContext, current_request
from platform_app.observability.logs.console_line import console_line
from platform_app.observability.logs.exceptions import exception_fields
from platform_app.observability.logs.flood_guard import FloodGuard, Repeated
from platform_app.observability.logs.json_line import json_line
from platform_app.observability.logs.known_secrets import mask_known_secrets
from platform_app.observability.logs.level import LOG_LEVEL, Level, LeveledLogger
from platform_app.observability.logs.sink import LogSink
from platform_app.observability.logs.standard_library import StructlogHandler

LINES_PER_SECOND = 20
"""Lines of one event that are written in one second: the default of PLATFORM_LOG_REPEATS_PER_SECOND."""
ACCESS = "access"
REQUEST = "request"
"""Component and event of the access lines, whose number apps/platform_api/http/middleware/access_log.py bounds."""


def get_logger(name: str) -> Any:
    """Return a structlog logger. Call it with an event name and fields: `log.info("key_revoked", key_id=...)`."""
    return structlog.get_logger(component=name)


def configure_logging(
    level: Level = "info",
    form: Literal["json", "console"] = "json",
    sink: LogSink | None = None,
    *,
    repeats_per_second: int = LINES_PER_SECOND,
) -> LogSink:
    """Set up both structlog and the standard library; called once per process, before the first line."""
    sink = sink or LogSink()
    guard = FloodGuard(repeats_per_second, metrics.LOG_LINES_SUPPRESSED.inc, _write_summary)
    sink.before_flush = guard.write_summaries
    render = json_line if form == "json" else partial(console_line, colours=_shows_colours(sink))
    _ACCESS_LINES.configure(render, sink)
    structlog.configure(
        processors=[_Pipeline(guard, render)],
        wrapper_class=LeveledLogger,
        logger_factory=lambda *_: _SinkLogger(sink),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[StructlogHandler()], force=True)
    LOG_LEVEL.reset(level)
    return sink


def write_access_line(fields: dict[str, Any], request: RequestContext | None) -> None:
    """Write one access line, if the level shows it. `request` adds its ids; `fields` becomes the line, and is changed.

    Every request writes one, so it takes a shorter way than other lines: no structlog, no count of repeats, and a
    search for the usual forms of keys alone. Its fields are names and numbers that the gateway itself chose, and ids.
    """
    _ACCESS_LINES.write(fields, request)


class _AccessLines:
    """The form and the sink of this process's access lines; until they are configured, no line is written."""

    def __init__(self) -> None:
        self._render: Callable[[EventDict], bytes] = json_line
        self._sink: LogSink | None = None

    def configure(self, render: Callable[[EventDict], bytes], sink: LogSink) -> None:
        self._render, self._sink = render, sink

    def write(self, fields: dict[str, Any], request: RequestContext | None) -> None:
        if self._sink is None or not LOG_LEVEL.shows_info:
            return
        if request is not None:
            trace = request.trace
            fields["request_id"], fields["trace_id"], fields["span_id"] = (
                request.request_id, trace.trace_id, trace.span_id
            )  # fmt: skip
        fields["component"], fields["event"], fields["level"] = ACCESS, REQUEST, "info"
        fields["timestamp"] = datetime.now(UTC)
        line = self._render(fields)
        # The platform's keys, and the sk- of most providers.
        self._sink.write(mask_credentials(line) if b"fbp_" in line or b"k-" in line else line)


_ACCESS_LINES = _AccessLines()


class _Pipeline:
    """The only processor: structlog's separate ones cost more than what they do."""

    def __init__(self, guard: FloodGuard, render: Callable[[EventDict], bytes]) -> None:
        self._guard = guard
        self._render = render

    def __call__(self, _: WrappedLogger, method: str, event: EventDict) -> bytes:
        """Return the finished line, or raise DropEvent."""
        level = "error" if method == "exception" else method
        self._check_repeats(event, level)
        event["level"] = level
        event["timestamp"] = datetime.now(UTC)
        request = current_request()
        if request is not None:
            event.setdefault("request_id", request.request_id)
            event.setdefault("trace_id", request.trace.trace_id)
            event.setdefault("span_id", request.trace.span_id)
            if request.key_id is not None:
                event.setdefault("key_id", request.key_id)
        if "exc_info" in event:
            event.update(exception_fields(event.pop("exc_info")))
        return mask_known_secrets(mask_credentials(self._render(event)))

    def _check_repeats(self, event: EventDict, level: str) -> None:
        name = event.pop("template", None) or event["event"]
        if name != _SUMMARY and not self._guard.admits(event.get("component", ""), str(name), level):
            raise structlog.DropEvent


class _SinkLogger:
    """The last logger in the chain: structlog calls it with the rendered line of any level."""

    def __init__(self, sink: LogSink) -> None:
        self.msg = sink.write
        self.debug = self.info = self.warning = self.error = self.critical = self.exception = sink.write


_SUMMARY = "log_lines_suppressed"


def _write_summary(repeated: Repeated, count: int) -> None:
    component, event, level = repeated
    number = logging.getLevelNamesMapping()[level.upper()]
    get_logger("logging").log(number, _SUMMARY, suppressed_component=component, suppressed_event=event, count=count)


def _shows_colours(sink: LogSink) -> bool:
    """Return whether lines go to a terminal that shows colours; see https://no-color.org."""
    # Not through platform_app.config: these describe the terminal, and the parent of `serve` does without that package.
    return sink.is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
