"""One worker process as the parent sees it: its heartbeat, the stack of a hung one, and why it could not start."""

import os
import signal
import socket
import sys
from collections.abc import Mapping

from apps.platform_api.server.heartbeat import BEAT, FAILURE
from apps.platform_cli.embedded.child import ChildProcess
from platform_app.observability.tracing.sender import DESCRIPTOR_VARIABLE

_MAX_STACK_LINES = 40
_MAX_READ_BYTES = 65_536


class Worker:
    """One worker process, with the reading end of its heartbeat."""

    def __init__(
        self, listening: socket.socket, environment: Mapping[str, str], now: float, trace_pipe: int | None = None
    ) -> None:
        """`trace_pipe`: the writing end of the pipe for traces; None if no traces are exported."""
        self.started_at = self.seen_at = now
        self.ready = False
        self.debug = False
        """Whether it has the signal that overrides the log level."""
        self.must_reload = False
        """Whether it is to read the config file again, once it is ready."""
        self.dump_sent_at: float | None = None
        self._said = bytearray()
        self._heartbeat, writing = os.pipe()
        os.set_blocking(self._heartbeat, False)
        try:
            descriptor = listening.fileno()
            self.process = ChildProcess(
                "worker",
                [sys.executable, "-m", "apps.platform_api", str(descriptor), str(writing)],
                env=environment if trace_pipe is None else {**environment, DESCRIPTOR_VARIABLE: str(trace_pipe)},
                pass_fds=[descriptor, writing, *([] if trace_pipe is None else [trace_pipe])],
                # Not SIGTERM, which a hung or stopped worker would not handle: it would keep the port for ever.
                death_signal=signal.SIGKILL,
            )
        except BaseException:
            os.close(self._heartbeat)
            raise
        finally:
            os.close(writing)

    def listen(self, now: float) -> None:
        """Read the heartbeats since the last call, the reason of a failed start, or the stack dump of a hung worker."""
        try:
            data = os.read(self._heartbeat, _MAX_READ_BYTES)
        except BlockingIOError:
            return
        self._said += data.strip(BEAT)[: _MAX_READ_BYTES - len(self._said)]
        if data and self.dump_sent_at is None and not self._said.startswith(FAILURE):
            self.seen_at, self.ready = now, True

    def failure(self) -> str:
        """Return why it could not start, as it said itself; empty if it did not."""
        return self._said.removeprefix(FAILURE).decode(errors="replace") if self._said.startswith(FAILURE) else ""

    def seconds_since_heartbeat(self, now: float) -> float:
        """Return the seconds since the last heartbeat, or since the start."""
        return now - self.seen_at

    def stack(self) -> list[str]:
        """Return where the threads of a hung worker were: files, lines and functions, without values."""
        return [line.strip() for line in self._said.decode(errors="replace").splitlines() if line.strip(". ")][
            :_MAX_STACK_LINES
        ]

    def end(self) -> int:
        """Kill the process with all its descendants. Return its exit code."""
        code = self.process.kill()
        os.close(self._heartbeat)
        return code
