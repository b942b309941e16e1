"""Exceptions that no code handled, and Python's warnings, as log lines.

Python writes them to stderr as text, with the exception's message, which can contain anything. Here they take the log
pipeline, which masks secrets and leaves the message out. asyncio reports its own to the logger `asyncio`.
"""

import sys
import threading
import warnings
from types import TracebackType
from typing import Any, TextIO

import structlog

_MAX_MESSAGE = 300


def capture_unhandled() -> None:
    """Log unhandled exceptions of the main thread, of other threads and of destructors, and Python's warnings. Called
    once, by a process that serves: a command's user reads stderr."""
    sys.excepthook = _main_thread
    threading.excepthook = _other_thread
    sys.unraisablehook = _destructor
    warnings.showwarning = _warning


def _log() -> Any:
    return structlog.get_logger(component="python")


def _main_thread(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    _log().critical("unhandled_exception", where="main thread", exc_info=error)


def _other_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_type is SystemExit:
        return
    where = f"thread {arguments.thread.name}" if arguments.thread is not None else "thread"
    _log().error("unhandled_exception", where=where, exc_info=arguments.exc_value)


def _destructor(arguments: "sys.UnraisableHookArgs") -> None:
    # The object itself is not logged: its repr may contain values.
    where = f"destructor or callback of {type(arguments.object).__qualname__}"
    _log().error("unhandled_exception", where=where, exc_info=arguments.exc_value)


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _log().warning(
        "python_warning", category=category.__name__, message=str(message)[:_MAX_MESSAGE], at=f"{filename}:{lineno}"
    )
