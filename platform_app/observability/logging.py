"""Structured logs: one JSON object per line on stdout, with the request that the line belongs to.

Lines of standard-library loggers (uvicorn's, SQLAlchemy's) have the same form. Text that looks like an API key is
masked in the finished line, as a last safeguard: no code should log a key.
"""

import json
import logging
import re
import sys
import traceback
from typing import Any, Literal

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

from platform_app.errors import ConfigurationError, PlatformError, SecretError
from platform_app.observability.context import current_request
from platform_app.observability.credential_forms import mask_credentials
from platform_app.observability.log_sink import LogSink

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
"""C0, DEL and C1, line and paragraph separators, marks that reorder or hide text (Unicode TR 36)."""
_UNSAFE_BYTES = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xef\xbf[\xb9-\xbb]"
)
"""The same in UTF-8, less what JSON escapes by itself."""
_OUR_OWN = (PlatformError, SecretError, ConfigurationError)
_MAX_MESSAGE = 300
_MAX_FRAMES = 20


def get_logger(name: str) -> Any:
    """Return a structlog logger. Call it with an event name and fields: `log.info("key_revoked", key_id=...)`."""
    return structlog.get_logger(component=name)


def configure_logging(
    level: str = "info", form: Literal["json", "console"] = "json", sink: LogSink | None = None
) -> LogSink:
    """Set up both structlog and the standard library; called once per process, before the first line."""
    sink = sink or LogSink()
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer = _render_json if form == "json" else _render_console
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_request,
            _add_exception,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _SinkLogger(sink),
        cache_logger_on_first_use=True,
    )
    handler = _StructlogHandler()
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
    logging.getLogger("uvicorn").setLevel(number)
    return sink


class _SinkLogger:
    """The last logger in the chain: structlog calls it with the rendered line of any level."""

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink

    def msg(self, line: bytes) -> None:
        # JSON does not escape DEL, C1 codes, line separators and bidirectional marks; a terminal interprets them.
        if not line.isascii() or b"\x7f" in line:
            line = _UNSAFE_BYTES.sub(_escape_bytes, line)
        # Every request writes a line, so the usual forms are searched first: the platform's, and sk- of most providers.
        self._sink.write(mask_credentials(line) if b"fbp_" in line or b"k-" in line else line)

    debug = info = warning = error = critical = exception = msg


class _StructlogHandler(logging.Handler):
    """Pass a standard-library record to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that do not fit the format are the library's bug
            message = str(record.msg)
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)  # structlog knows these five
        structlog.get_logger(component=record.name).log(level, message, **fields)


def _add_request(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    request = current_request()
    if request is not None:
        event.setdefault("request_id", request.request_id)
        event.setdefault("trace_id", request.trace.trace_id)
    return event


def _add_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Return an exception's type and traceback locations, without values of variables and source lines. The message is
    included only for our own exceptions: that of a KeyError, for example, is the key that was looked up."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
        event["error"] = type(error).__qualname__
        if isinstance(error, _OUR_OWN):
            event["error_message"] = str(error)[:_MAX_MESSAGE]
        event["error_at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return event


def _render_json(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    except TypeError:  # half of a surrogate pair, or a number beyond 64 bits: a log call never fails
        return json.dumps(event, default=str, skipkeys=True).encode() + b"\n"


def _render_console(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    time = str(event.pop("timestamp"))[11:23]
    level, name, request_id = event.pop("level"), event.pop("component", ""), event.pop("request_id", None)
    event.pop("trace_id", None)
    fields = " ".join(f"{key}={value}" for key, value in event.items() if key != "event" and value is not None)
    tail = f" [{request_id}]" if request_id else ""
    line = f"{time} {level:<7} {name:<8} {event['event']} {fields}{tail}"
    if not line.isprintable():
        line = _CONTROL.sub(_escape_control, line)
    return f"{line}\n".encode(errors="backslashreplace")


def _escape_control(match: re.Match[str]) -> str:
    """Escape as in a Python literal, so that a log line stays one line and moves no cursor."""
    return match[0].encode("unicode_escape").decode("ascii")


def _escape_bytes(match: re.Match[bytes]) -> bytes:
    """Escape as JSON does for characters of the basic plane, to which all of these belong."""
    return "".join(f"\\u{ord(each):04x}" for each in match[0].decode()).encode()
