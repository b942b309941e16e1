"""The supervisor of the worker processes: it replaces a worker that ends, hangs or never becomes ready."""

import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType

from apps.platform_api.server.heartbeat import DUMP_SIGNAL
from apps.platform_cli.embedded.child import ChildFailedError, describe_exit
from apps.platform_cli.serve.options import ParentOptions
from apps.platform_cli.serve.orphans import reap_orphans
from apps.platform_cli.serve.start_signals import release_signals
from apps.platform_cli.serve.trace_exporter import TraceExporter
from apps.platform_cli.serve.worker import Worker
from platform_app.observability.logging import get_logger
from platform_app.observability.logs.level import DEBUG_SIGNAL, LOG_LEVEL
from platform_app.observability.metrics import WORKER_RESTARTS, WORKERS_CONFIGURED, WORKERS_READY

RESTART_PAUSE_SECONDS = 1.0
"""The pause before a new worker is started; doubled each time that a worker ends within STEADY_SECONDS."""
MAX_RESTART_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
START_SECONDS = 120.0
"""The time until a worker's first heartbeat must arrive; more, if the timeout of a running worker is longer."""
DUMP_SECONDS = 1.0
"""The time in which a hung worker may dump its stack."""
START_ATTEMPTS = 5
"""If the worker of every slot has failed to become ready so many times in a row, the parent ends."""
START_STOP_SECONDS = 2.0
"""At a stop, the time for a worker that is not ready yet. It has no request."""
CLOSE_SECONDS = 3.0
"""At a stop, the time after the grace for a worker to send what the spool has and to close its connections. Their
servers may not respond. With EXPORTER_SECONDS it is the 5 s that docs/operations.md names."""
EXPORTER_SECONDS = 2.0
"""At a stop, the time for the exporter of traces after the last moment of the workers."""
EXIT_STOPPED, EXIT_FAILED, EXIT_CONFIGURATION, EXIT_WORKERS = 0, 1, 2, 3
_REASONS = ("died", "hung", "slow_start")
_WATCH_SECONDS = 0.1
_STALL_SECONDS = 1.0

_log = get_logger("serve")


class _Slot:
    """The place of one worker; it is empty during a restart pause."""

    def __init__(self, trace_pipe: int | None) -> None:
        self.trace_pipe = trace_pipe
        self.worker: Worker | None = None
        self.start_at = 0.0
        self.pause = RESTART_PAUSE_SECONDS
        self.failed_starts = 0
        """Workers of this slot that ended without becoming ready, since the last one that did."""
        self.exit_code: int | None = None
        """The exit code of the last of them; None: it was killed, or could not be started."""
        self.reason = ""


class Supervisor:
    """Supervise all workers of one parent. The loop never waits for a single worker."""

    def __init__(
        self,
        options: ParentOptions,
        listening: socket.socket,
        environment: Mapping[str, str],
        forget: Callable[[int], None] = lambda pid: None,
        clock: Callable[[], float] = time.monotonic,
        exporter: TraceExporter | None = None,
        before_start: Callable[[], None] = lambda: None,
    ) -> None:
        """`before_start` prepares what each new worker needs; `forget` removes what one that ended has left."""
        self._exporter = exporter
        self._before_start = before_start
        self._options = options
        self._listening = listening
        self._environment = environment
        self._forget = forget
        self._clock = clock
        pipes = [None] * options.workers if exporter is None else exporter.writing
        self._slots = [_Slot(pipe) for pipe in pipes]
        self._looked_at = clock()
        self._stopping = 0
        self._reload = False
        self._serving = False
        for reason in _REASONS:
            WORKER_RESTARTS.labels(reason)  # shown from the start, as 0
        WORKERS_CONFIGURED.set(options.workers)

    def run(self) -> int:
        """Start all workers and keep them running. Return the exit code after a stop on request, or if no worker can
        start."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGQUIT, self._on_quit)
        signal.signal(signal.SIGHUP, self._on_reload)
        signal.signal(DEBUG_SIGNAL, self._on_debug)
        release_signals()
        while not self._stopping:
            self.supervise()
            self._pass_signals_on()
            reap_orphans(self._children())
            if self.cannot_start():
                return self._give_up()
            time.sleep(_WATCH_SECONDS)
        return self._stop()

    def cannot_start(self) -> bool:
        """Return whether the workers of all slots have failed to become ready too often."""
        return all(slot.failed_starts >= START_ATTEMPTS for slot in self._slots)

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
                    self._start(slot, now)
                continue
            if stalled > _STALL_SECONDS:
                # This process or the machine was suspended, and no heartbeat of that time has been read.
                slot.worker.seen_at += stalled
            self._listen(slot, slot.worker, now)
            self._check(slot, slot.worker, now)
        self._count_ready()

    def _count_ready(self) -> None:
        """Count the workers that serve. One that no longer sends heartbeats does not, although it still runs."""
        WORKERS_READY.set(sum(worker.ready and worker.dump_sent_at is None for worker in self._running()))

    def _start(self, slot: _Slot, now: float) -> None:
        try:
            self._before_start()
            slot.worker = Worker(self._listening, self._environment, now, slot.trace_pipe)
        except (ChildFailedError, OSError) as error:
            # No process, no memory or no descriptor is free.
            _log.error("worker_not_started", reason=str(error))
            self._note_failed_start(slot, None, str(error))
            self._pause(slot, now)

    def _listen(self, slot: _Slot, worker: Worker, now: float) -> None:
        was_ready = worker.ready
        worker.listen(now)
        if worker.ready and not was_ready:
            slot.failed_starts = 0
            _log.info("worker_ready", pid=worker.process.pid, seconds=round(now - worker.started_at, 1))
            if not self._serving:
                self._serving = True
                _log.info(
                    "serving", host=self._options.host, port=self._options.port, workers=self._options.workers,
                    metrics_port=self._options.metrics_port,
                )  # fmt: skip

    def _check(self, slot: _Slot, worker: Worker, now: float) -> None:
        code = worker.process.poll()
        if code is not None and worker.dump_sent_at is None:
            self._listen(slot, worker, now)  # what it wrote last
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
        seconds = self._options.worker_timeout_seconds
        return seconds if worker.ready or not seconds else max(seconds, START_SECONDS)

    def _log_hung(self, worker: Worker, now: float) -> None:
        event = "worker_hung" if worker.ready else "worker_start_timed_out"
        silent = round(worker.seconds_since_heartbeat(now), 1)
        _log.error(event, pid=worker.process.pid, silent_seconds=silent, stack=worker.stack())

    def _replace(self, slot: _Slot, worker: Worker, reason: str, now: float) -> None:
        code = worker.end()  # with its child processes
        self._forget(worker.process.pid)
        if now - worker.started_at >= STEADY_SECONDS and worker.ready:
            slot.pause = RESTART_PAUSE_SECONDS
        if not worker.ready:
            why = f"not ready within {self._timeout(worker):g} s" if reason == "slow_start" else describe_exit(code)
            self._note_failed_start(slot, code if code >= 0 else None, worker.failure() or why)
        self._pause(slot, now)
        # Last: a scrape that shows the restart shows one worker less, and none of its files.
        self._count_ready()
        WORKER_RESTARTS.labels(reason).inc()

    def _note_failed_start(self, slot: _Slot, code: int | None, reason: str) -> None:
        slot.failed_starts += 1
        slot.exit_code, slot.reason = code, reason

    def _pause(self, slot: _Slot, now: float) -> None:
        slot.worker, slot.start_at = None, now + slot.pause
        slot.pause = min(slot.pause * 2, MAX_RESTART_PAUSE_SECONDS)  # no tight loop for a worker that cannot start

    def _give_up(self) -> int:
        """Say why no worker can start. Return the exit code."""
        invalid = all(slot.exit_code == EXIT_CONFIGURATION for slot in self._slots)
        code = EXIT_CONFIGURATION if invalid else EXIT_WORKERS
        reasons = list(dict.fromkeys(slot.reason for slot in self._slots))
        _log.critical("workers_cannot_start", attempts=START_ATTEMPTS, reasons=reasons, exit_code=code)
        sys.stderr.write(
            f"No worker became ready in {START_ATTEMPTS} attempts. Reason: {'; '.join(reasons)}. "
            "Correct the cause (`flowbiz-platform check` finds most) and start again.\n"
        )
        for worker in self._running():
            worker.end()
        if self._exporter is not None:
            self._exporter.stop()
        return code

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._stopping += 1

    def _on_quit(self, number: int, _: FrameType | None) -> None:
        self._stopping = 2

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

    def _children(self) -> set[int]:
        """Return the processes that this parent watches by their ids."""
        exporter = self._exporter.pid if self._exporter is not None else None
        return {worker.process.pid for worker in self._running()} | ({exporter} if exporter is not None else set())

    def _stop(self) -> int:
        """Drain all workers concurrently, within one grace period. A second signal kills them at once."""
        _log.info("stopping", grace_seconds=self._options.shutdown_grace_seconds)
        workers = self._running()
        # The workers alone have it from now on: the last of them closes it, and accepts first what waits there.
        self._listening.close()
        began = time.monotonic()
        deadline = began + self._options.shutdown_drain_seconds + self._options.shutdown_grace_seconds + CLOSE_SECONDS
        for worker in workers:
            worker.listen(began)
            worker.process.send(signal.SIGTERM)
        waiting = workers
        while waiting and self._stopping < 2 and (now := time.monotonic()) < deadline:
            waiting = [
                worker
                for worker in waiting
                if worker.process.poll() is None and (worker.ready or now < began + START_STOP_SECONDS)
            ]
            reap_orphans(self._children())
            time.sleep(_WATCH_SECONDS)
        # A worker that was not ready had no request to lose, however it ends.
        codes = {worker: worker.end() for worker in workers}
        failed = any(code for worker, code in codes.items() if worker.ready)
        if self._exporter is not None:
            # After the workers: it exports what they sent last.
            self._exporter.stop(deadline + EXPORTER_SECONDS - time.monotonic(), hurry=lambda: self._stopping >= 2)
        _log.info("stopped", exit_codes=list(codes.values()))
        return EXIT_FAILED if failed else EXIT_STOPPED
