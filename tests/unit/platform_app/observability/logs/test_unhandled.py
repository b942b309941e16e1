"""Exceptions that no code handled, warnings and library messages: in the pipeline, without values."""

import asyncio
import gc
import json
import logging
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from platform_app.observability.logs.unhandled import capture_unhandled
from tests.support.fakes.log_lines import Lines
from tests.support.paths import ROOT

VALUE = "canary-value-in-an-exception"


@pytest.fixture
def captured() -> Iterator[None]:
    """The hooks of Python are set, and those of before afterwards."""
    before = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    capture_unhandled()
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = before


def fail() -> None:
    raise KeyError(VALUE)


def line_of_failure(lines: Lines) -> dict[str, Any]:
    """Return the one line about `fail`, which must not have its value. Garbage of other tests may be reported too."""
    [line] = [line for line in lines.all if line.get("error") == "KeyError"]
    assert VALUE not in json.dumps(line)
    return line


@pytest.mark.usefixtures("captured")
def test_unhandled_exception_of_a_thread_is_logged(lines: Lines) -> None:
    thread = threading.Thread(target=fail, name="spool-writer")
    thread.start()
    thread.join()
    line = line_of_failure(lines)
    assert (line["event"], line["where"]) == ("unhandled_exception", "thread spool-writer")
    assert line["error_at"][-1].endswith(" fail")


@pytest.mark.usefixtures("captured")
def test_unhandled_exception_of_a_destructor_is_logged(lines: Lines) -> None:
    class Broken:
        def __del__(self) -> None:
            fail()

        def __repr__(self) -> str:
            return VALUE

    Broken()
    gc.collect()
    assert line_of_failure(lines)["event"] == "unhandled_exception"


@pytest.mark.usefixtures("captured")
def test_python_warning_is_logged(lines: Lines) -> None:
    warnings.showwarning("old\nname", DeprecationWarning, "module.py", 7)
    line = lines.last
    assert (line["event"], line["category"], line["message"], line["at"]) == (
        "python_warning", "DeprecationWarning", "old\nname", "module.py:7",
    )  # fmt: skip


async def test_unhandled_exception_of_a_task_is_logged(lines: Lines) -> None:
    async def work() -> None:
        fail()

    task = asyncio.create_task(work())
    await asyncio.wait({task})
    del task
    gc.collect()
    line = line_of_failure(lines)
    assert (line["component"], line["event"]) == ("asyncio", "Task exception was never retrieved")


async def test_unhandled_exception_of_a_callback_is_logged(lines: Lines) -> None:
    def callback(_: str) -> None:
        fail()

    asyncio.get_running_loop().call_soon(callback, VALUE)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    line = line_of_failure(lines)
    assert line["component"] == "asyncio"
    assert line["event"].startswith("Exception in callback")


def test_formatted_traceback_of_a_library_becomes_fields(lines: Lines) -> None:
    """Starlette formats the traceback of a failed start, and uvicorn logs it as a message."""
    try:
        fail()
    except KeyError:
        logging.getLogger("uvicorn.error").error(traceback.format_exc())  # noqa: TRY400 - as uvicorn does
    line = line_of_failure(lines)
    assert line["event"] == "unhandled_exception"
    assert line["error_at"][-1].endswith(" fail")


def test_unhandled_exception_of_a_process_is_its_last_line() -> None:
    program = f"""
from platform_app.observability.logging import configure_logging
from platform_app.observability.logs.unhandled import capture_unhandled
configure_logging()
capture_unhandled()
raise KeyError({VALUE!r})
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    line = json.loads(done.stdout)
    assert (line["event"], line["level"], line["where"]) == ("unhandled_exception", "critical", "main thread")
    assert (done.returncode, done.stderr) == (1, "")
    assert VALUE not in done.stdout
