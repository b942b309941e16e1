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


@pytest.mark.usefixtures("captured")
def test_unhandled_exception_of_a_thread_is_logged(lines: Lines) -> None:
    thread = threading.Thread(target=fail, name="spool-writer")
    thread.start()
    thread.join()
    line = lines.last
    assert (line["event"], line["where"], line["error"]) == ("unhandled_exception", "thread spool-writer", "KeyError")
    assert line["error_at"][-1].endswith(" fail")
    assert VALUE.encode() not in lines.raw[-1]


@pytest.mark.usefixtures("captured")
def test_unhandled_exception_of_a_destructor_is_logged(lines: Lines) -> None:
    class Broken:
        def __del__(self) -> None:
            fail()

        def __repr__(self) -> str:
            return VALUE

    Broken()
    gc.collect()
    assert lines.last["event"] == "unhandled_exception"
    assert lines.last["error"] == "KeyError"
    assert VALUE.encode() not in lines.raw[-1]


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
    [line] = [line for line in lines.all if line["component"] == "asyncio"]
    assert (line["event"], line["error"]) == ("Task exception was never retrieved", "KeyError")
    assert VALUE not in json.dumps(line)


async def test_unhandled_exception_of_a_callback_is_logged(lines: Lines) -> None:
    def callback(_: str) -> None:
        fail()

    asyncio.get_running_loop().call_soon(callback, VALUE)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    [line] = [line for line in lines.all if line["component"] == "asyncio"]
    assert line["event"].startswith("Exception in callback")
    assert line["error"] == "KeyError"
    assert VALUE not in json.dumps(line)


def test_formatted_traceback_of_a_library_becomes_fields(lines: Lines) -> None:
    """Starlette formats the traceback of a failed start, and uvicorn logs it as a message."""
    try:
        fail()
    except KeyError:
        logging.getLogger("uvicorn.error").error(traceback.format_exc())  # noqa: TRY400 - as uvicorn does
    line = lines.last
    assert (line["event"], line["error"]) == ("unhandled_exception", "KeyError")
    assert line["error_at"][-1].endswith(" fail")
    assert VALUE.encode() not in lines.raw[-1]


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
