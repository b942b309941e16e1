"""The lines of the standard library's loggers: uvicorn's, SQLAlchemy's, asyncio's and all others.

Their messages are free text. Parts that can contain values of the program (an exception's message, the repr of a task
or callback) are left out.
"""

import logging
import re
from typing import Any

import structlog

_MAX_MESSAGE = 2_000
_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'^[ \t]*+File "([^"\n]++)", line (\d+), in (\S+)', re.MULTILINE)
_ERROR_TYPE = re.compile(r"^([A-Za-z_][\w.]*)(?::|$)", re.MULTILINE)
_MAX_FRAMES = 20


class StructlogHandler(logging.Handler):
    """Pass a record to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record with the name of its logger as the component."""
        fields: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that do not fit the format are the library's bug
            message = str(record.msg)
        if record.name == "asyncio":
            message = _without_reprs(message)
        elif _TRACEBACK in message:
            message, fields = _without_traceback(message)
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)  # structlog knows these five
        # `template`: the flood guard counts messages that differ in their arguments as one event.
        template = str(record.msg)[:100]
        structlog.get_logger(component=record.name).log(level, message[:_MAX_MESSAGE], template=template, **fields)


def _without_reprs(message: str) -> str:
    """Return the start of an asyncio message. What follows are reprs: of a task with its exception's message, or of a
    callback with its arguments."""
    return re.split(r"[(<\n]", message, maxsplit=1)[0].strip()


def _without_traceback(message: str) -> tuple[str, dict[str, Any]]:
    """Return a message and the fields of the formatted traceback in it, as Starlette and uvicorn pass it on when the
    start fails."""
    before, _, after = message.partition(_TRACEBACK)
    frames = [f"{path}:{line} {name}" for path, line, name in _FRAME.findall(after)]
    types = _ERROR_TYPE.findall(after)
    fields: dict[str, Any] = {"error_at": frames[-_MAX_FRAMES:]}
    if types:
        fields["error"] = types[-1]
    return before.strip() or "unhandled_exception", fields
