"""The log sink: a thread writes log lines to stdout, so that a slow reader never blocks the event loop.

The queue is bounded. If the reader of stdout hangs, lines are dropped and counted, and requests continue.
"""

import atexit
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from platform_app.observability import metrics

MAX_QUEUED_LINES = 20_000
FLUSH_SECONDS = 0.02
CLOSE_TIMEOUT_SECONDS = 2.0


class LogSink:
    """Accept finished lines from any thread and write them in order, many per system call."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = sys.stdout.fileno() if descriptor is None else descriptor
        self._lines: deque[bytes] = deque()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.before_flush: Callable[..., None] | None = None
        """Called by the sink's thread before it writes; with `closing=True` the last time."""
        # Reentrant: a garbage collection in here can run a destructor that logs.
        self._start = threading.RLock()

    def write(self, line: bytes) -> None:
        """Queue one line, which must end in a line feed, or nothing. Never blocks."""
        if len(self._lines) >= MAX_QUEUED_LINES:
            metrics.LOG_LINES_DROPPED.inc()
            return
        self._lines.append(line)
        if self._thread is None:
            self._launch()

    def is_terminal(self) -> bool:
        """Return whether the lines go to a terminal."""
        return os.isatty(self._descriptor)

    def close(self) -> None:
        """Write the queued lines, for at most two seconds."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT_SECONDS)

    def _launch(self) -> None:
        with self._start:
            if sys.is_finalizing():  # a thread would never run, and its start would wait for it
                self._drain()
            elif self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log-sink", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # Python 3.12 and later start no thread during their end
                    self._thread = None
                    self._drain()
                else:
                    atexit.register(self.close)

    def _run(self) -> None:
        # A short sleep instead of a wake-up per line: under load one write carries many lines.
        while not self._closing.wait(FLUSH_SECONDS):
            self._flush()
        self._flush(closing=True)

    def _flush(self, **options: bool) -> None:
        if self.before_flush is not None:
            self.before_flush(**options)
        self._drain()

    def _drain(self) -> None:
        while self._lines:
            batch = [self._lines.popleft() for _ in range(min(len(self._lines), 500))]
            data = memoryview(b"".join(batch))
            try:
                while data:
                    try:
                        data = data[os.write(self._descriptor, data) :]
                    except BlockingIOError:  # the pipe is full, and a process that shares stdout made it non-blocking
                        time.sleep(FLUSH_SECONDS)
            except OSError:
                # The reader is gone; only the counter can still report it.
                metrics.LOG_LINES_DROPPED.inc(len(batch))
