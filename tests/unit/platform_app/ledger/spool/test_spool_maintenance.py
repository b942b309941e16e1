"""The spool's maintenance: what each round does, and that no failure ends it."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from platform_app.ledger.events.intents import HEAD, PendingIntent
from platform_app.ledger.events.usage_record import INTERRUPTED
from platform_app.ledger.shipping.orphan_charges import OrphanCharges
from platform_app.ledger.spool import maintenance as maintenance_module
from platform_app.ledger.spool import spool as spool_module
from platform_app.ledger.spool.maintenance import SpoolMaintenance
from platform_app.ledger.spool.pending import PendingLines, read_pending
from platform_app.ledger.spool.segments import LOCK, PENDING, Orphans, list_directory, segment_path
from platform_app.ledger.spool.spool import Spool
from tests.support.fakes.core import Count, FakeClock
from tests.support.ledger.events import access, is_failing, spool_in, usage
from tests.support.timing.virtual_time import virtual_time

DEAD = "4711-0123abcd"
OTHER = "4712-0123abcd"
NOW = 1_790_000_000.123_456
LINE = access().line()


class Charges:
    """Counts how often charges are sent."""

    sent = 0

    async def send(self) -> None:
        self.sent += 1


class World:
    """A spool, its maintenance, and the clocks that it reads."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.opened: list[Spool] = []
        self.adopted: list[Orphans] = []
        self.charges = Charges()
        time = SimpleNamespace(monotonic=self.clock, time=lambda: NOW, time_ns=lambda: int(NOW * 1000) * 1_000_000 + 1)
        monkeypatch.setattr(maintenance_module, "time", time)

    def spool(self, **options: Any) -> Spool:
        self.opened.append(spool_in(self.directory, **options))
        return self.opened[-1]

    def maintenance(self, spool: Spool, sync_seconds: float = 0) -> SpoolMaintenance:
        self.adopted.append(Orphans(self.directory, spool.owner))
        return SpoolMaintenance(spool, self.adopted[-1], sync_seconds, cast(OrphanCharges, self.charges))

    def segment(self, created_ms: int, data: bytes = LINE, owner: str = DEAD) -> Path:
        """Leave a closed segment of another process."""
        path = segment_path(self.directory, created_ms, owner, 1).with_suffix(".seg")
        path.write_bytes(data)
        return path


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path, monkeypatch)
    yield world
    for orphans in world.adopted:
        orphans.close()
    for spool in world.opened:
        spool.close()


async def _here(call: Any, *arguments: Any) -> Any:
    return call(*arguments)


@virtual_time
async def _rounds(maintenance: SpoolMaintenance, seconds: float) -> None:
    """Run the maintenance for these seconds, without threads, and stop it."""
    running = asyncio.create_task(maintenance.run())
    await asyncio.sleep(seconds)
    maintenance.stop()
    async with asyncio.timeout(0.01):
        await running


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "to_thread", _here)


@pytest.mark.usefixtures("no_threads")
def test_rounds_come_twice_a_second_until_stopped(world: World) -> None:
    maintenance, rounds = world.maintenance(world.spool()), list[int]()
    maintenance.each_round = lambda: rounds.append(1)
    _rounds(maintenance, 1.2)
    assert len(rounds) == 3


@pytest.mark.usefixtures("no_threads")
def test_unreadable_directory_is_logged_once_and_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    unreadable = OSError(5, "Input/output error")
    answers: list[Exception | None] = [unreadable, unreadable, None, unreadable, ValueError("a bug"), None, None]
    rounds = iter(answers)

    def list_or_fail(directory: Path) -> Any:
        answer = next(rounds)
        if answer is not None:
            raise answer
        return list_directory(directory)

    monkeypatch.setattr(maintenance_module, "list_directory", list_or_fail)
    with capture_logs() as logs:
        _rounds(world.maintenance(world.spool()), 0.5 * len(answers) - 0.1)
    assert [(line["event"], line.get("why")) for line in logs] == [
        ("ledger_spool_unreadable", "Input/output error"),
        ("ledger_spool_unreadable", "Input/output error"),
        ("ledger_spool_maintenance_bug", None),
    ]
    assert next(rounds, "all") == "all"


async def test_round_writes_what_the_disk_refused_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "spool", monkeypatch)
    spool = world.spool()
    for path in world.directory.iterdir():
        path.unlink()
    world.directory.rmdir()
    spool.append(LINE)
    assert is_failing(spool)
    world.directory.mkdir()
    await world.maintenance(spool).run_once()
    assert not is_failing(spool)
    spool.close()


async def test_round_measures_what_other_processes_wrote(world: World) -> None:
    ours, theirs = world.spool(), world.spool()
    ours.append(LINE)
    theirs.append(LINE)
    await world.maintenance(ours).run_once()
    assert ours.size == 2 * len(LINE)


def _gauge(name: str) -> float | None:
    return REGISTRY.get_sample_value(name)


async def test_round_shows_size_bound_and_oldest_age(world: World) -> None:
    spool = world.spool(max_bytes=5_000_000)
    maintenance = world.maintenance(spool)
    await maintenance.run_once()
    assert (_gauge("platform_ledger_spool_bytes"), _gauge("platform_ledger_spool_max_bytes")) == (0, 5_000_000)
    assert _gauge("platform_ledger_oldest_unshipped_seconds") == 0
    world.segment(int(NOW * 1000) - 9_000, b"", OTHER)  # nothing in it waits
    world.segment(int(NOW * 1000) - 7_000)
    world.segment(int(NOW * 1000) - 2_000)
    await maintenance.run_once()
    assert _gauge("platform_ledger_spool_bytes") == 2 * len(LINE)
    assert _gauge("platform_ledger_oldest_unshipped_seconds") == pytest.approx(7, abs=0.002)


async def test_segment_of_a_clock_ahead_has_no_age(world: World) -> None:
    world.segment(int(NOW * 1000) + 60_000)
    await world.maintenance(world.spool()).run_once()
    assert _gauge("platform_ledger_oldest_unshipped_seconds") == 0


async def test_dead_processes_are_looked_for_at_intervals(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance_module, "ADOPT_SECONDS", 4.0)
    world.segment(1_790_000_000_000)
    maintenance = world.maintenance(world.spool())
    [orphans] = world.adopted
    with capture_logs() as logs:
        await maintenance.run_once()
        assert orphans.adopted() == [DEAD]
        world.segment(1_790_000_000_001, owner=OTHER)
        world.clock.advance(3.9)
        await maintenance.run_once()
        assert (orphans.adopted(), world.charges.sent) == ([DEAD], 1)
        world.clock.advance(0.1)
        await maintenance.run_once()
        assert (orphans.adopted(), world.charges.sent) == ([DEAD, OTHER], 2)
        world.clock.advance(4.0)
        await maintenance.run_once()
    assert world.charges.sent == 3, "charges that could not be sent are tried again"
    assert [(line["event"], line["owners"]) for line in logs] == [
        ("ledger_spools_adopted", [DEAD]),
        ("ledger_spools_adopted", [OTHER]),
    ]


async def test_lines_are_forced_to_disk_at_intervals(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    spool = world.spool()
    spool.append(LINE)
    maintenance = world.maintenance(spool, 3.0)
    for seconds, times in ((0, 0), (2.9, 0), (0.1, 1), (0, 1), (2.9, 1), (0.1, 2)):
        world.clock.advance(seconds)
        await maintenance.run_once()
        assert len(synced) == times


async def test_without_an_interval_nothing_is_forced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    spool = world.spool()
    spool.append(LINE)
    maintenance = world.maintenance(spool, 0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", synced.append)
        world.clock.advance(3600)
        await maintenance.run_once()
    assert synced == []


def _leave_pending(directory: Path, *lines: bytes) -> PendingLines:
    (directory / f"{DEAD}{LOCK}").touch()
    left = PendingLines(directory / f"{DEAD}{PENDING}", HEAD)
    for line in lines:
        left.put(line)
    return left


async def test_recovered_calls_are_of_this_moment_and_reported(world: World) -> None:
    interrupted = Count("platform_ledger_interrupted_total")
    torn = Count("platform_ledger_bad_lines_total", reason="torn")
    left = _leave_pending(world.directory, LINE, b'{"a":1}\n', b"[1]\n")
    for _ in range(2):
        PendingIntent(left, usage(outcome=INTERRUPTED, estimated=True), ())
    with capture_logs() as logs:
        await world.maintenance(world.spool()).run_once()
    assert (interrupted.grown, torn.grown) == (2, 2)
    [segment] = list_directory(world.directory).segments
    assert segment.created_ms == int(NOW * 1000)
    report = logs[-1]
    assert (report["event"], report["owner"]) == ("ledger_calls_interrupted", DEAD)
    assert [report[name] for name in ("calls", "ended", "unreadable", "uncharged")] == [2, 0, 2, 0]


@pytest.mark.parametrize(("line", "reported"), [(LINE, False), (b"[1]\n", True)])
async def test_counts_alone_are_not_reported(world: World, line: bytes, reported: bool) -> None:
    _leave_pending(world.directory, line)
    with capture_logs() as logs:
        await world.maintenance(world.spool()).run_once()
    assert ("ledger_calls_interrupted" in [entry["event"] for entry in logs]) is reported


async def test_call_without_a_cost_adds_none(world: World) -> None:
    left = _leave_pending(world.directory)
    PendingIntent(left, usage(outcome=INTERRUPTED, provider="free", model="m", cost_microusd=None), ())
    PendingIntent(left, usage(outcome=INTERRUPTED, provider="paid", model="m", cost_microusd=1_500_000), ())
    spent = Count("platform_usage_cost_usd_total", provider="paid", model="m")
    await world.maintenance(world.spool()).run_once()
    assert spent.grown == 1.5
    assert Count("platform_usage_cost_usd_total", provider="free", model="m").grown == 0


async def test_bound_drops_the_oldest_and_counts_them(world: World) -> None:
    dropped = Count("platform_ledger_dropped_total", reason="spool_full")
    spool = world.spool(max_bytes=len(LINE), policy="drop_oldest")
    spool.append(LINE)
    oldest = world.segment(1_600_000_000_000, 3 * LINE)
    maintenance = world.maintenance(spool)
    with capture_logs() as logs:
        await maintenance.run_once()
    assert not oldest.exists()
    assert dropped.grown == 3
    assert spool.size == len(LINE)
    assert [line["event"] for line in logs if line["event"] == "ledger_dropping_oldest"] == ["ledger_dropping_oldest"]
    await maintenance.run_once()
    assert dropped.grown == 3, "the open segment stays: there is room now"


async def test_bound_of_one_segment_closes_it_first(world: World) -> None:
    dropped = Count("platform_ledger_dropped_total", reason="spool_full")
    spool = world.spool(max_bytes=1, policy="drop_oldest")
    spool.append(LINE)
    maintenance = world.maintenance(spool)
    await maintenance.run_once()
    [segment] = list_directory(world.directory).segments
    assert (segment.closed, dropped.grown) == (True, 0)
    await maintenance.run_once()
    assert (list_directory(world.directory).segments, dropped.grown) == ([], 1)


async def test_refusing_policy_drops_nothing(world: World) -> None:
    segment = world.segment(1_600_000_000_000)
    await world.maintenance(world.spool(max_bytes=1)).run_once()
    assert segment.exists()


async def test_dropping_is_logged_once_until_there_is_room(world: World) -> None:
    spool = world.spool(max_bytes=1, policy="drop_oldest")
    maintenance = world.maintenance(spool)
    with capture_logs() as logs:
        for full in (True, True, False, True):
            if full:
                world.segment(1_600_000_000_000, orjson.dumps([1]) + b"\n")
            await maintenance.run_once()
    dropping = [line for line in logs if line["event"] == "ledger_dropping_oldest"]
    assert [(line["lines"], line["bytes"]) for line in dropping] == [(1, 4), (1, 4)]


async def test_round_makes_removed_files_again(world: World) -> None:
    """An operator removes "stale" locks: the process stays alive for others, and its running calls are recovered."""
    spool = world.spool()
    pending = PendingLines(world.directory / f"{spool.owner}{PENDING}", HEAD)
    PendingIntent(pending, usage(outcome=INTERRUPTED, provider="p", model="m"), ())
    orphans = Orphans(world.directory, spool.owner)
    world.adopted.append(orphans)
    maintenance = SpoolMaintenance(spool, orphans, 0, pending=pending)
    for suffix in (LOCK, PENDING):
        (world.directory / f"{spool.owner}{suffix}").unlink()
    with capture_logs() as logs:
        await maintenance.run_once()
        await maintenance.run_once()
    assert [line["event"] for line in logs] == ["ledger_lock_removed", "ledger_pending_file_removed"]
    other = Orphans(world.directory, OTHER)
    world.adopted.append(other)
    assert other.adopt(list_directory(world.directory)) == [], "it is alive"
    os.close(spool._lock)  # what the kernel does for a process that was killed
    spool._lock = os.dup(0)
    assert other.adopt(list_directory(world.directory)) == [spool.owner]
    left = read_pending(world.directory / f"{spool.owner}{PENDING}")
    assert left is not None
    assert len(left.lines) == 1


async def test_file_that_cannot_be_made_again_stops_no_round(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = world.spool()
    maintenance = world.maintenance(spool)
    (world.directory / f"{spool.owner}{LOCK}").unlink()

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(spool_module, "restore_ownership", refuse)
        world.segment(int(NOW * 1000))
        await maintenance.run_once()
    assert spool.size == len(LINE)
    await maintenance.run_once()
    assert (world.directory / f"{spool.owner}{LOCK}").exists()
