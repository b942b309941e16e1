"""A spool at its bounds: when a segment is closed, when the spool is full, and what its end leaves."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from platform_app.errors import LedgerUnavailable
from platform_app.ledger.spool import spool as spool_module
from platform_app.ledger.spool.segments import Listing, list_directory, segment_path
from platform_app.ledger.spool.spool import Spool
from tests.support.fakes.core import Count
from tests.support.ledger.events import access, is_failing, open_files, spool_in

LINE = access().line()
SIZE = len(LINE)


@pytest.mark.parametrize(("room", "closed"), [(2 * SIZE, True), (2 * SIZE + 1, False)])
def test_segment_is_closed_by_the_line_that_fills_it(tmp_path: Path, room: int, closed: bool) -> None:
    spool = spool_in(tmp_path, segment_bytes=room)
    for _ in range(2):
        spool.append(LINE)
    assert [segment.closed for segment in list_directory(tmp_path).segments] == [closed]
    spool.close()


def test_segments_are_numbered_and_dated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "time", SimpleNamespace(time_ns=lambda: 1_790_000_000_123_999_999))
    spool = spool_in(tmp_path)
    for _ in range(2):
        spool.append(LINE)
        spool.roll()
    found = [(segment.created_ms, segment.sequence) for segment in list_directory(tmp_path).segments]
    assert found == [(1_790_000_000_123, 1), (1_790_000_000_123, 2)]
    spool.close()


def test_file_that_is_there_already_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "time", SimpleNamespace(time_ns=lambda: 1_790_000_000_123_999_999))
    spool = spool_in(tmp_path)
    there = segment_path(tmp_path, 1_790_000_000_123, spool.owner, 1)
    there.write_bytes(b"x")
    spool.append(LINE)
    assert is_failing(spool)
    assert there.read_bytes() == b"x"
    there.unlink()
    spool.close()


def test_closed_segments_stay_open_only_for_a_sync(tmp_path: Path) -> None:
    before = open_files()
    spool = Spool(tmp_path, max_bytes=1 << 30)
    spool.append(LINE)
    spool.roll()
    assert spool.to_sync() == []
    assert open_files() == before + 1, "the lock"
    spool.append(LINE)
    spool.sync(spool.to_sync())
    assert open_files() == before + 2
    spool.close()
    assert open_files() == before


def test_spool_is_full_at_its_bound(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, max_bytes=2 * SIZE)
    spool.append(LINE)
    spool.admit()
    spool.append(LINE)
    with pytest.raises(LedgerUnavailable):
        spool.admit()
    spool.close()


@pytest.mark.parametrize("policy", ["refuse", "drop_oldest"])
def test_excess_is_what_exceeds_the_bound(tmp_path: Path, policy: str) -> None:
    spool = spool_in(tmp_path, max_bytes=SIZE, policy=policy)
    assert spool.excess() == 0
    spool.append(LINE)
    assert spool.excess() == 0
    spool.append(LINE)
    assert spool.excess() == (SIZE if policy == "drop_oldest" else 0)
    spool.close()


def test_removed_files_make_room_at_once(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    for _ in range(3):
        spool.append(LINE)
    spool.measured(list_directory(tmp_path), spool.mark())
    spool.removed(SIZE)
    assert spool.size == 2 * SIZE
    spool.removed(10 * SIZE)  # another process removed and measured too
    assert spool.size == 0
    spool.append(LINE)
    assert spool.size == SIZE
    spool.close()


def test_reaching_and_leaving_the_bound_is_logged(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, max_bytes=SIZE)
    nothing = Listing((), frozenset(), 0)
    with capture_logs() as logs:
        spool.measured(nothing, spool.mark())
        spool.append(LINE)
        for _ in range(2):
            spool.measured(list_directory(tmp_path), spool.mark())
        for _ in range(2):
            spool.measured(nothing, spool.mark())
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("ledger_spool_full", "error"),
        ("ledger_spool_has_room", "warning"),
    ]
    spool.close()


def test_end_closes_and_syncs_the_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    before = open_files()
    spool = spool_in(tmp_path, keep_for_sync=True)
    spool.append(LINE)
    spool.close()
    [segment] = list_directory(tmp_path).segments
    assert segment.closed
    assert synced == [segment.path.stat().st_ino]
    assert open_files() == before


def test_lines_that_the_end_cannot_write_are_counted(tmp_path: Path) -> None:
    lost = Count("platform_ledger_dropped_total", reason="spool_failing")
    spool = spool_in(tmp_path / "spool")
    for path in spool.directory.iterdir():
        path.unlink()
    spool.directory.rmdir()
    with capture_logs() as logs:
        for _ in range(3):
            spool.append(LINE)
        spool.close()
    assert lost.grown == 3
    assert [line["event"] for line in logs] == ["ledger_spool_failing", "ledger_lines_lost"]
    assert (logs[0]["why"], logs[1]["lines"]) == ("No such file or directory", 3)


def test_end_without_lost_lines_counts_none(tmp_path: Path) -> None:
    lost = Count("platform_ledger_dropped_total", reason="spool_failing")
    spool = spool_in(tmp_path)
    spool.append(LINE)
    with capture_logs() as logs:
        spool.close()
    assert (lost.grown, logs) == (0, [])


def test_error_without_a_text_is_logged_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = spool_in(tmp_path)

    def refuse(*_: object) -> int:
        raise BlockingIOError

    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(os, "write", refuse)
        spool.append(LINE)
    assert logs[0]["why"] == "BlockingIOError"
    spool.close()
