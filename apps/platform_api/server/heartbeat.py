"""A worker's sign of life: its event loop writes a byte into a pipe of the parent's once a second.

A worker that the parent takes for hung gets DUMP_SIGNAL first, and writes where its threads are into the same pipe. A
worker that cannot start writes why.
"""

import asyncio
import contextlib
import faulthandler
import os
import signal

BEAT = b"."
DUMP_SIGNAL = signal.SIGUSR2
"""Not SIGABRT: the system may write a memory dump for that one, with all secrets in it."""
BEAT_SECONDS = 1.0
FAILURE = b"!"
"""Before the reason why a worker cannot start; never behind a beat."""
_MAX_REASON_BYTES = 2000
"""A pipe takes up to 4096 bytes whole."""


def start_heartbeat(descriptor: int) -> None:
    """Beat into the pipe as long as the running loop runs."""
    # The parent may be stopped: a full pipe must not block the event loop.
    os.set_blocking(descriptor, False)
    faulthandler.register(DUMP_SIGNAL, file=descriptor, all_threads=True, chain=False)
    loop = asyncio.get_running_loop()

    def beat() -> None:
        with contextlib.suppress(OSError):  # full, or the parent is gone
            os.write(descriptor, BEAT)
        loop.call_later(BEAT_SECONDS, beat)

    beat()


def report_failure(descriptor: int, reason: str) -> None:
    """Write to the parent why this worker ends before its first beat. The reason must contain no secret."""
    with contextlib.suppress(OSError):
        os.write(descriptor, FAILURE + reason.encode()[:_MAX_REASON_BYTES])
