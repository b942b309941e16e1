"""The signals that stop `flowbiz-platform dev`."""

import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from apps.platform_cli.embedded import processes

_AGAIN_SECONDS = 0.5


class StopSignals:
    """Within `with`: the first SIGINT, SIGTERM or SIGHUP sets `requested`; another Ctrl-C kills at once.

    Handlers raise nothing, because an exception between the start of a process and its registration would lose it.
    """

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        """Prepare; `pids` names the processes that a second Ctrl-C kills."""
        self._pids = pids
        self._first = 0.0
        self._before: dict[signal.Signals, Any] = {}
        self.requested: signal.Signals | None = None

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Under nohup a closing terminal must not stop it.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested is None:
            self.requested, self._first = signal.Signals(number), now
        # Only Ctrl-C, and only after a pause: tools in between (make, timeout) may deliver one signal twice.
        elif number == signal.SIGINT and now - self._first > _AGAIN_SECONDS:
            for pid in self._pids():
                for each in [pid, *processes.descendants(pid)]:
                    processes.send(each, signal.SIGKILL)
            os._exit(128 + number)
