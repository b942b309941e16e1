"""Supervision on a clock of the test's own: what is replaced, when, and that no worker holds up another."""

import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from apps.platform_api.server.heartbeat import DUMP_SIGNAL
from apps.platform_cli.serve import supervisor as workers
from apps.platform_cli.serve.supervisor import MAX_RESTART_PAUSE_SECONDS, START_SECONDS, Supervisor
from platform_app.config import load_settings

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

    def __init__(self, listening: object, environment: object, now: float, trace_pipe: int | None) -> None:
        self.made.append(self)
        self.process = FakeProcess(len(self.made))
        self.started_at = self.seen_at = now
        self.ready = self.must_reload = self.debug = False
        self.dump_sent_at: float | None = None
        self.silent = False
        self.ended = False

    def listen(self, now: float) -> None:
        if not self.silent:
            self.seen_at, self.ready = now, True

    def seconds_since_heartbeat(self, now: float) -> float:
        return now - self.seen_at

    def stack(self) -> list[str]:
        return ["File x.py, line 1 in spin"]

    def end(self) -> int:
        self.ended = True
        return 0


class World:
    def __init__(self, count: int, timeout: float) -> None:
        self.now = 100.0
        self.logged: list[tuple[str, Mapping[str, Any]]] = []
        settings = load_settings(
            database_url="postgresql://localhost/p",
            redis_url="redis://localhost",
            workers=count,
            worker_timeout_seconds=timeout,
        )
        with socket.socket() as listening:
            self.workers = Supervisor(settings, listening, {}, Path("/nowhere"), clock=lambda: self.now)
        self.step()

    def step(self, seconds: float = 0.0) -> None:
        """Let time pass as it does, a tenth of a second at a time."""
        for _ in range(max(1, round(seconds * 10))):
            self.now += 0.1
            self.workers.supervise()

    def error(self, event: str, **fields: Any) -> None:
        self.logged.append((event, fields))

    def info(self, event: str, **fields: Any) -> None:
        """Not looked at."""

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.logged]


@pytest.fixture
def make_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    FakeWorker.made = []
    monkeypatch.setattr(workers, "Worker", FakeWorker)
    monkeypatch.setattr(workers, "forget_worker", lambda pid, directory: None)

    def make(count: int = 1, timeout: float = TIMEOUT) -> World:
        world = World(count, timeout)
        monkeypatch.setattr(workers, "_log", world)
        return world

    yield make
    FakeWorker.made = []


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
