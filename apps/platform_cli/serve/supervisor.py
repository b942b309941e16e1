"""The supervisor of the worker processes: it replaces a worker that ends, hangs or never becomes ready."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from apps.platform_api.server.heartbeat import BEAT, DUMP_SIGNAL
from apps.platform_cli.embedded.child import ChildProcess, describe_exit
from apps.platform_cli.serve.trace_exporter import TraceExporter
from apps.platform_cli.serve.worker_metrics import forget_worker
from platform_app.config import Settings
from platform_app.observability.logging import get_logger
from platform_app.observability.logs.level import DEBUG_SIGNAL, LOG_LEVEL
from platform_app.observability.metrics import WORKER_RESTARTS, WORKERS_CONFIGURED, WORKERS_READY
from platform_app.observability.tracing.sender import DESCRIPTOR_VARIABLE

RESTART_PAUSE_SECONDS = 1.0
"""The pause before a new worker is started; doubled each time that a worker ends within STEADY_SECONDS."""
MAX_RESTART_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
START_SECONDS = 120.0
"""The time until a worker's first heartbeat must arrive; more, if the timeout of a running worker is longer."""
DUMP_SECONDS = 1.0
"""The time in which a hung worker may dump its stack."""
_REASONS = ("died", "hung", "slow_start")
_WATCH_SECONDS = 0.1
_STALL_SECONDS = 1.0
_MAX_STACK_LINES = 40
_MAX_READ_BYTES = 65_536

_log = get_logger("serve")


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
            )
        except BaseException:
            os.close(self._heartbeat)
            raise
        finally:
            os.close(writing)

    def listen(self, now: float) -> None:
        """Read the heartbeats since the last call, and the stack dump of a hung worker."""
        try:
            data = os.read(self._heartbeat, _MAX_READ_BYTES)
        except BlockingIOError:
            return
        self._said += data.strip(BEAT)[: _MAX_READ_BYTES - len(self._said)]
        if data and self.dump_sent_at is None:
            self.seen_at, self.ready = now, True

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


class _Slot:
    """The place of one worker; it is empty during a restart pause."""

    def __init__(self, trace_pipe: int | None) -> None:
        self.trace_pipe = trace_pipe
        self.worker: Worker | None = None
        self.start_at = 0.0
        self.pause = RESTART_PAUSE_SECONDS


class Supervisor:
    """Supervise all workers of one parent. The loop never waits for a single worker."""

    def __init__(
        self,
        settings: Settings,
        listening: socket.socket,
        environment: Mapping[str, str],
        metrics_directory: Path,
        clock: Callable[[], float] = time.monotonic,
        exporter: TraceExporter | None = None,
    ) -> None:
        self._exporter = exporter
        self._settings = settings
        self._listening = listening
        self._environment = environment
        self._metrics_directory = metrics_directory
        self._clock = clock
        pipes = [None] * settings.workers if exporter is None else exporter.writing
        self._slots = [_Slot(pipe) for pipe in pipes]
        self._looked_at = clock()
        self._stopping = 0
        self._reload = False
        for reason in _REASONS:
            WORKER_RESTARTS.labels(reason)  # shown from the start, as 0
        WORKERS_CONFIGURED.set(settings.workers)

    def run(self) -> int:
        """Start all workers and keep them running. Return the exit code after a stop on request."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_reload)
        signal.signal(DEBUG_SIGNAL, self._on_debug)
        self.supervise()
        _log.info(
            "serving", host=self._settings.host, port=self._settings.port, workers=self._settings.workers,
            metrics_port=self._settings.metrics_port,
        )  # fmt: skip
        while not self._stopping:
            time.sleep(_WATCH_SECONDS)
            self.supervise()
            self._pass_signals_on()
        return self._stop()

    def supervise(self) -> None:
        """Check each worker once, and start those whose pause has passed."""
        now = self._clock()
        stalled = now - self._looked_at
        self._looked_at = now
        if self._exporter is not None:
            self._exporter.supervise(now)
        for slot in self._slots:
            if slot.worker is None:
                if now >= slot.start_at and not self._stopping:
                    slot.worker = Worker(self._listening, self._environment, now, slot.trace_pipe)
                continue
            if stalled > _STALL_SECONDS:
                # This process or the machine was suspended, and no heartbeat of that time has been read.
                slot.worker.seen_at += stalled
            was_ready = slot.worker.ready
            slot.worker.listen(now)
            if slot.worker.ready and not was_ready:
                seconds = round(now - slot.worker.started_at, 1)
                _log.info("worker_ready", pid=slot.worker.process.pid, seconds=seconds)
            self._check(slot, slot.worker, now)
        WORKERS_READY.set(sum(slot.worker is not None and slot.worker.ready for slot in self._slots))

    def _check(self, slot: _Slot, worker: Worker, now: float) -> None:
        code = worker.process.poll()
        if code is not None and worker.dump_sent_at is None:
            _log.error("worker_died", pid=worker.process.pid, how=describe_exit(code))
            self._replace(slot, worker, "died", now)
        elif worker.dump_sent_at is not None:
            if code is not None or now - worker.dump_sent_at >= DUMP_SECONDS:
                self._log_hung(worker, now)
                self._replace(slot, worker, "hung" if worker.ready else "slow_start", now)
        elif self._timeout(worker) and worker.seconds_since_heartbeat(now) > self._timeout(worker):
            if worker.ready:  # a worker that is not ready has no handler: the signal would end it
                worker.process.send(DUMP_SIGNAL)
            worker.dump_sent_at = now

    def _timeout(self, worker: Worker) -> float:
        """Return the timeout between heartbeats of this worker; 0 means none."""
        seconds = self._settings.worker_timeout_seconds
        return seconds if worker.ready or not seconds else max(seconds, START_SECONDS)

    def _log_hung(self, worker: Worker, now: float) -> None:
        event = "worker_hung" if worker.ready else "worker_start_timed_out"
        silent = round(worker.seconds_since_heartbeat(now), 1)
        _log.error(event, pid=worker.process.pid, silent_seconds=silent, stack=worker.stack())

    def _replace(self, slot: _Slot, worker: Worker, reason: str, now: float) -> None:
        WORKER_RESTARTS.labels(reason).inc()
        forget_worker(worker.process.pid, self._metrics_directory)
        worker.end()  # with its child processes
        steady = now - worker.started_at >= STEADY_SECONDS
        slot.pause = RESTART_PAUSE_SECONDS if steady else slot.pause
        slot.worker, slot.start_at = None, now + slot.pause
        slot.pause = min(slot.pause * 2, MAX_RESTART_PAUSE_SECONDS)  # no tight loop for a worker that cannot start

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._stopping += 1

    def _on_reload(self, _: int, __: FrameType | None) -> None:
        self._reload = True
        LOG_LEVEL.request_configured()

    def _on_debug(self, _: int, __: FrameType | None) -> None:
        LOG_LEVEL.request_debug()

    def _pass_signals_on(self) -> None:
        LOG_LEVEL.apply_requested()
        if self._reload:
            self._reload = False
            for worker in self._running():
                worker.must_reload = True
        # Only to workers that are ready: before that they have no handler, and the signal would end them.
        for worker in self._running():
            if not worker.ready:
                continue
            if worker.must_reload:
                worker.process.send(signal.SIGHUP)
                worker.must_reload = worker.debug = False
            if LOG_LEVEL.debug and not worker.debug:
                worker.process.send(DEBUG_SIGNAL)
                worker.debug = True

    def _running(self) -> list[Worker]:
        return [slot.worker for slot in self._slots if slot.worker is not None]

    def _stop(self) -> int:
        """Drain all workers concurrently, within one grace period. A second signal kills them at once."""
        _log.info("stopping", grace_seconds=self._settings.shutdown_grace_seconds)
        workers = self._running()
        deadline = time.monotonic() + self._settings.shutdown_drain_seconds + self._settings.shutdown_grace_seconds + 2
        for worker in workers:
            worker.process.send(signal.SIGTERM)
        while any(worker.process.poll() is None for worker in workers):
            if self._stopping > 1 or time.monotonic() > deadline:
                break
            time.sleep(_WATCH_SECONDS)
        codes = [worker.end() for worker in workers]
        if self._exporter is not None:
            self._exporter.stop()  # after the workers: it exports what they sent last
        _log.info("stopped", exit_codes=codes)
        return 0 if not any(codes) else 1
