"""Run something in a fork, in its own process group, for a bounded time."""

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

POLL_SECONDS = 0.005


def run_forked(work: Callable[[], int], timeout: float) -> tuple[int | None, float]:
    """Return the exit code of `work` in a fork, None if it did not end in time, and the seconds it took."""
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _work(work)
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() - started > timeout:
            _kill_group(pid)
            os.waitpid(pid, 0)
            return None, time.monotonic() - started
        time.sleep(POLL_SECONDS)
    _kill_group(pid)  # processes that a test started and that a failing test left behind
    return os.waitstatus_to_exitcode(ended[1]), time.monotonic() - started


def _work(work: Callable[[], int]) -> None:
    """Run in the fork. Never returns."""
    code = 3
    try:
        os.setsid()
        code = work()
    except BaseException:  # noqa: BLE001 - the fork ends here, with the reason in its log
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
