"""Supervision on a clock of the test's own: what is replaced, when, and that no worker holds up another."""

import signal
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from apps.platform_api.server.heartbeat import DUMP_SIGNAL
from apps.platform_cli.serve import supervisor as workers
from apps.platform_cli.serve.options import ParentOptions
from apps.platform_cli.serve.supervisor import MAX_RESTART_PAUSE_SECONDS, START_SECONDS, Supervisor
from platform_app.observability.metrics.runtime import WORKERS_READY

TIMEOUT = 30.0
DIED = -9


class FakeProcess:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None
        self.signals: list[signal.Signals] = []

    def poll(self) -> int | None:
        return self.code

    def send(self, number: signal.Signals) -> None:
        self.signals.append(number)


class FakeWorker:
    """Send a heartbeat whenever it is checked, unless `silent` is set."""

    made: list["FakeWorker"] = []  # noqa: RUF012 - emptied by the fixture
    starts = True
    """Whether new workers send heartbeats."""

    def __init__(self, listening: object, environment: object, now: float, trace_pipe: int | None) -> None:
        self.made.append(self)
        self.process = FakeProcess(len(self.made))
        self.started_at = self.seen_at = now
        self.ready = self.must_reload = self.debug = False
        self.dump_sent_at: float | None = None
        self.silent = not self.starts
        self.reason = ""
        self.ended = False

    def listen(self, now: float) -> None:
        if not self.silent:
            self.seen_at, self.ready = now, True

    def failure(self) -> str:
        return self.reason

    def seconds_since_heartbeat(self, now: float) -> float:
        return now - self.seen_at

    def stack(self) -> list[str]:
        return ["File x.py, line 1 in spin"]

    def end(self) -> int:
        self.ended = True
        return DIED if self.process.code is None else self.process.code


def options(workers: int, timeout: float) -> ParentOptions:
    return ParentOptions(
        host="127.0.0.1",
        port=8100,
        metrics_port=9100,
        workers=workers,
        worker_timeout_seconds=timeout,
        shutdown_drain_seconds=0,
        shutdown_grace_seconds=1,
        metrics_cache_seconds=0,
        log_level="info",
        log_format="json",
        log_repeats_per_second=20,
        exports_traces=False,
        listening=-1,
        metrics_listening=-1,
    )


class World:
    def __init__(self, count: int, timeout: float) -> None:
        self.now = 100.0
        self.logged: list[tuple[str, Mapping[str, Any]]] = []
        self.informed: list[str] = []
        with socket.socket() as listening:
            self.workers = Supervisor(options(count, timeout), listening, {}, clock=lambda: self.now)

    def step(self, seconds: float = 0.0) -> None:
        """Let time pass as it does, a tenth of a second at a time."""
        for _ in range(max(1, round(seconds * 10))):
            self.now += 0.1
            self.workers.supervise()

    def error(self, event: str, **fields: Any) -> None:
        self.logged.append((event, fields))

    critical = error

    def info(self, event: str, **fields: Any) -> None:
        self.informed.append(event)

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.logged]


@pytest.fixture
def make_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    FakeWorker.made = []
    monkeypatch.setattr(FakeWorker, "starts", True)
    monkeypatch.setattr(workers, "Worker", FakeWorker)

    def make(count: int = 1, timeout: float = TIMEOUT) -> World:
        world = World(count, timeout)
        monkeypatch.setattr(workers, "_log", world)
        world.step(0.2)  # the workers start, and are ready
        return world

    yield make
    FakeWorker.made = []


def ready() -> int:
    """Return the gauge of the workers that serve."""
    return int(next(iter(WORKERS_READY.collect())).samples[0].value)


def test_beating_worker_is_left_alone(make_world: Any) -> None:
    world = make_world()
    world.step(10 * TIMEOUT)
    assert len(FakeWorker.made) == 1
    assert FakeWorker.made[0].process.signals == []


def test_worker_without_heartbeat_is_dumped_and_replaced(make_world: Any) -> None:
    world = make_world()
    world.step(1)
    [first] = FakeWorker.made
    first.silent = True
    world.step(TIMEOUT - 1)
    assert first.process.signals == []
    world.step(2)
    assert first.process.signals == [DUMP_SIGNAL]
    world.step(5)
    assert first.ended
    assert world.events == ["worker_hung"]
    assert world.logged[0][1]["stack"] == ["File x.py, line 1 in spin"]
    assert len(FakeWorker.made) == 2


def test_worker_that_hangs_is_not_ready_while_its_stack_is_read(make_world: Any) -> None:
    world = make_world(count=2)
    assert ready() == 2
    FakeWorker.made[0].silent = True
    world.step(TIMEOUT + 0.5)
    assert world.events == []
    assert ready() == 1


def test_restart_is_counted_when_the_worker_is_gone(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape runs in another thread: with the restart it must not show the worker as ready, or its files."""
    world = make_world(count=2)
    first, _ = FakeWorker.made
    forgotten: list[int] = []
    seen: list[tuple[str, int, bool, list[int]]] = []

    class Restarts:
        def labels(self, reason: str) -> "Restarts":
            self.reason = reason
            return self

        def inc(self) -> None:
            seen.append((self.reason, ready(), first.ended, forgotten.copy()))

    monkeypatch.setattr(workers, "WORKER_RESTARTS", Restarts())
    monkeypatch.setattr(world.workers, "_forget", forgotten.append)
    first.process.code = DIED
    world.step()
    assert seen == [("died", 1, True, [1])]


def test_slow_start_has_a_longer_bound(make_world: Any) -> None:
    world = make_world()
    first = FakeWorker.made[0]
    first.ready, first.silent = False, True
    world.step(START_SECONDS - 1)
    assert world.events == []
    world.step(5)
    assert world.events == ["worker_start_timed_out"]
    assert first.process.signals == []
    assert len(FakeWorker.made) == 2


def test_timeout_of_zero_waits_for_ever(make_world: Any) -> None:
    world = make_world(timeout=0)
    world.step(1)
    FakeWorker.made[0].silent = True
    world.step(5 * START_SECONDS)
    assert world.events == []


def test_stall_of_the_parent_counts_for_no_worker(make_world: Any) -> None:
    world = make_world()
    world.step(1)
    FakeWorker.made[0].silent = True  # its heartbeat is just not there yet
    world.now += 3600
    world.step(TIMEOUT / 2)
    assert world.events == []


def test_restart_pause_grows_and_holds_up_no_other(make_world: Any) -> None:
    world = make_world(count=2)
    other = FakeWorker.made[1]
    starts: list[int] = []
    for _ in range(7):
        FakeWorker.made[-1 if starts else 0].process.code = DIED
        before, died_at = len(FakeWorker.made), world.now
        seen = other.seen_at
        while len(FakeWorker.made) == before:
            world.step()
        starts.append(round(world.now - died_at))
        assert other.seen_at > seen
    assert starts == [1, 2, 4, 8, 16, 30, 30]
    assert max(starts) == MAX_RESTART_PAUSE_SECONDS


def test_restart_pause_is_short_again_after_steady_work(make_world: Any) -> None:
    world = make_world()
    for _ in range(4):
        FakeWorker.made[-1].process.code = DIED
        world.step(20)
    world.step(workers.STEADY_SECONDS)
    before, FakeWorker.made[-1].process.code = len(FakeWorker.made), DIED
    world.step(1.5)
    assert len(FakeWorker.made) == before + 1


def test_reload_waits_until_a_starting_worker_is_ready(make_world: Any) -> None:
    """A worker that is not ready has no handler: SIGHUP would end it."""
    world = make_world()
    [worker] = FakeWorker.made
    worker.ready, worker.silent = False, True
    world.workers._on_reload(signal.SIGHUP, None)
    world.workers._pass_signals_on()
    assert worker.process.signals == []
    worker.ready = True
    world.workers._pass_signals_on()
    world.workers._pass_signals_on()
    assert worker.process.signals == [signal.SIGHUP]


def fail_all(world: World, code: int, reason: str = "") -> None:
    """End every worker that runs, as one that cannot start ends."""
    for worker in FakeWorker.made:
        if worker.process.code is None and not worker.ended:
            worker.process.code, worker.reason = code, reason
    world.step()


@pytest.mark.parametrize(("exit_code", "expected"), [(2, 2), (3, 3), (DIED, 3)])
def test_workers_that_never_start_end_the_parent(
    make_world: Any, capsys: pytest.CaptureFixture[str], exit_code: int, expected: int
) -> None:
    FakeWorker.starts = False
    world = make_world(count=2)
    for attempt in range(workers.START_ATTEMPTS):
        assert not world.workers.cannot_start()
        fail_all(world, exit_code, f"no space left ({attempt})")
        if attempt < workers.START_ATTEMPTS - 1:
            world.step(MAX_RESTART_PAUSE_SECONDS)
    assert world.workers.cannot_start()
    assert world.workers._give_up() == expected
    event, fields = world.logged[-1]
    assert event == "workers_cannot_start"
    assert fields == {"attempts": 5, "reasons": ["no space left (4)"], "exit_code": expected}
    assert "No worker became ready in 5 attempts. Reason: no space left (4)." in capsys.readouterr().err
    assert len(FakeWorker.made) == 2 * workers.START_ATTEMPTS
    assert "serving" not in world.informed


def test_parent_stays_while_one_worker_serves(make_world: Any) -> None:
    world = make_world(count=2)
    assert world.informed.count("serving") == 1
    FakeWorker.starts = False
    FakeWorker.made[0].process.code = DIED
    world.step(1.2)
    steady = FakeWorker.made[1]
    for _ in range(3 * workers.START_ATTEMPTS):
        for worker in FakeWorker.made:
            if worker is not steady and worker.process.code is None:
                worker.process.code = 3
        world.step(MAX_RESTART_PAUSE_SECONDS + 1)
        assert not world.workers.cannot_start()
    assert len(FakeWorker.made) > 2 * workers.START_ATTEMPTS


def test_start_that_succeeds_resets_the_attempts(make_world: Any) -> None:
    world = make_world()
    for _ in range(3 * workers.START_ATTEMPTS):
        FakeWorker.made[-1].process.code = DIED
        world.step(MAX_RESTART_PAUSE_SECONDS + 1)
        assert not world.workers.cannot_start()


def test_worker_process_that_cannot_be_made_is_a_failed_start(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example no memory, no process id or no descriptor is free."""
    world = make_world()

    def fail(*_: object) -> None:
        raise OSError("Too many open files")

    monkeypatch.setattr(workers, "Worker", fail)
    FakeWorker.made[0].process.code = DIED
    world.step(5 * MAX_RESTART_PAUSE_SECONDS)
    assert world.workers.cannot_start()
    assert world.logged[-1] == ("worker_not_started", {"reason": "Too many open files"})
