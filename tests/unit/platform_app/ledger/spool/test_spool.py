import errno
import fcntl
import os
import resource
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from platform_app.errors import LedgerUnavailable
from platform_app.ledger.spool import spool as spool_module
from platform_app.ledger.spool.segments import (
    ASIDE,
    LOCK,
    Orphans,
    drop_oldest,
    list_directory,
    release_ownership,
    take_ownership,
)
from platform_app.ledger.spool.spool import Spool
from tests.support.fakes.core import Count
from tests.support.ledger.events import access, is_failing, spool_in


def test_line_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    spool = spool_in(tmp_path / "deep" / "spool")
    assert stat.S_IMODE((tmp_path / "deep" / "spool").stat().st_mode) == 0o700
    first, second = access().line(), access().line()
    spool.append(first)
    spool.append(second)
    [segment] = list_directory(spool.directory).segments
    assert segment.path.read_bytes() == first + second
    assert stat.S_IMODE(segment.path.stat().st_mode) == 0o600
    assert (segment.owner, segment.closed, spool.is_current(segment)) == (spool.owner, False, True)
    assert spool.size == len(first) + len(second) == segment.size
    spool.close()


def test_segment_is_closed_at_its_size_and_wakes_the_writer(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, segment_bytes=700)
    woken = []
    spool.wake_writer = lambda: woken.append(1)
    lines = [access().line() for _ in range(10)]
    for line in lines:
        spool.append(line)
    spool.roll()
    spool.roll()  # nothing is open: nothing to do
    segments = list_directory(tmp_path).segments
    assert len(segments) == len(woken) + 1 >= 3
    assert all(segment.closed and not spool.is_current(segment) for segment in segments)
    assert b"".join(segment.path.read_bytes() for segment in segments) == b"".join(lines)
    spool.close()
    assert len(list_directory(tmp_path).segments) == len(segments), "closing removes nothing that was not shipped"


def test_closing_an_empty_spool_leaves_nothing(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [LOCK]
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_append_is_one_write_and_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an append costs a request: see docs/adr/0004-ledger.md."""
    calls: list[str] = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return call(*args, **kwargs)

        return counting

    spool, line = spool_in(tmp_path), access().line()
    spool.append(line)  # opens the segment
    for name in ("write", "writev", "pwrite", "open", "fsync", "fdatasync", "stat", "fstat", "listdir", "scandir"):
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    for _ in range(500):
        spool.append(line)
    assert calls == ["write"] * 500
    monkeypatch.undo()
    spool.close()


def _measure(spool: Spool) -> None:
    mark = spool.mark()
    spool.measured(list_directory(spool.directory), mark)


def test_full_spool_refuses_requests_until_there_is_room(tmp_path: Path) -> None:
    spool, other = spool_in(tmp_path, max_bytes=1000), spool_in(tmp_path, max_bytes=1000)
    refused = Count("platform_ledger_refused_total")
    spool.admit()
    line = access().line()
    while spool.size < 1000:
        spool.append(line)
    with pytest.raises(LedgerUnavailable) as caught:
        spool.admit()
    assert (caught.value.status, caught.value.code) == (503, "ledger_unavailable")
    assert caught.value.retry_after == 5
    assert refused.grown == 1
    spool.append(line)  # a request that was admitted before is recorded
    other.admit()
    _measure(other)
    with pytest.raises(LedgerUnavailable):
        other.admit()  # the bound is the directory's
    assert other.excess() == 0
    spool.roll()
    for segment in list_directory(tmp_path).segments:
        segment.path.unlink()
        spool.removed(segment.size)
    _measure(spool)
    _measure(other)
    spool.admit()
    other.admit()
    spool.close()
    other.close()


def test_lines_appended_during_a_listing_are_counted(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    line = access().line()
    spool.append(line)
    mark = spool.mark()
    listing = list_directory(tmp_path)
    spool.append(line)
    spool.measured(listing, mark)
    assert spool.size == 2 * len(line)
    spool.close()


def test_drop_oldest_removes_oldest_segments_of_all_owners(tmp_path: Path) -> None:
    one, two = (spool_in(tmp_path, max_bytes=3500, policy="drop_oldest", segment_bytes=700) for _ in range(2))
    for index in range(20):
        (one if index < 10 else two).append(access(request_id=f"number-{index}").line())
        time.sleep(0.002)  # so that no two segments are of the same millisecond
    _measure(two)
    two.admit()
    excess = two.excess()
    assert excess > 0
    lines, size = drop_oldest(list_directory(tmp_path), excess)
    assert excess <= size < excess + 1100
    left = b"".join(segment.path.read_bytes() for segment in list_directory(tmp_path).segments)
    assert [f'"number-{index}"' in left.decode() for index in range(20)] == [index >= lines for index in range(20)]
    _measure(two)
    assert two.excess() == 0
    one.close()
    two.close()


def test_open_segment_is_never_dropped(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, max_bytes=1, policy="drop_oldest")
    spool.append(access().line())
    assert drop_oldest(list_directory(tmp_path), 10**9) == (0, 0)
    spool.close()


@contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    """The system refuses files larger than this, after taking a part of what would be too much."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with capture_logs():  # which pytest would write to a file
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("limit", [0, 100, 500])
def test_refused_lines_are_kept_and_written_later(tmp_path: Path, limit: int) -> None:
    spool = spool_in(tmp_path)
    failures = Count("platform_ledger_spool_failures_total")
    lines = [access().line() for _ in range(5)]
    with _file_size_limit(limit):
        for line in lines:
            spool.append(line)
        assert is_failing(spool)
        assert failures.grown == 1, "a failing disk is not asked again for every request"
        with pytest.raises(LedgerUnavailable):
            spool.admit()
        spool.retry()
        assert is_failing(spool)
    spool.retry()
    assert not is_failing(spool)
    spool.admit()
    spool.append(lines[0])
    spool.roll()
    content = b"\n".join(segment.path.read_bytes() for segment in list_directory(tmp_path).segments)
    found = content.splitlines(keepends=True)
    assert [line for line in found if line in lines] == [*lines, lines[0]], "each once and whole, then the next"
    spool.close()


def test_drop_oldest_with_failing_disk_admits_requests(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, policy="drop_oldest")
    with _file_size_limit(0):
        spool.append(access().line())
        assert is_failing(spool)
        spool.admit()
    spool.close()
    assert len(list_directory(tmp_path).segments) == 2, "written at the close; the first one stayed empty"


def test_memory_is_bounded_while_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "BUFFER_LINES", 3)
    spool = spool_in(tmp_path)
    dropped = Count("platform_ledger_dropped_total", reason="spool_failing")
    lines = [access().line() for _ in range(5)]
    with _file_size_limit(0):
        for line in lines:
            spool.append(line)
    assert dropped.grown == 2
    spool.close()
    content = b"".join(segment.path.read_bytes() for segment in list_directory(tmp_path).segments)
    assert content == b"".join(lines[2:])


def test_removed_directory_is_a_failing_disk(tmp_path: Path) -> None:
    spool = spool_in(tmp_path / "spool")
    for path in spool.directory.iterdir():
        path.unlink()
    spool.directory.rmdir()
    spool.append(access().line())
    assert is_failing(spool)
    spool.directory.mkdir()
    spool.retry()
    assert not is_failing(spool)
    spool.close()


def test_closed_segments_are_synced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    spool = spool_in(tmp_path, keep_for_sync=True)
    spool.append(access().line())
    spool.roll()
    spool.append(access().line())
    spool.sync(spool.to_sync())
    inodes = [segment.path.stat().st_ino for segment in list_directory(tmp_path).segments]
    assert synced == inodes
    spool.append(access().line())
    spool.sync(spool.to_sync())
    assert synced == [*inodes, inodes[1]], "the open one goes on"
    spool.close()


def test_only_dead_owners_are_adopted(tmp_path: Path) -> None:
    ours, live, dead = (spool_in(tmp_path) for _ in range(3))
    for spool in (ours, live, dead):
        spool.append(access().line())
    os.close(dead._lock)  # what the kernel does for a process that was killed
    orphans = Orphans(tmp_path, ours.owner)
    assert orphans.adopt(list_directory(tmp_path)) == [dead.owner]
    assert orphans.adopt(list_directory(tmp_path)) == []
    others = Orphans(tmp_path, live.owner)
    assert others.adopt(list_directory(tmp_path)) == [], "one owner is adopted by one process"
    assert dead.owner in orphans.owners
    [segment] = [each for each in list_directory(tmp_path).segments if each.owner == dead.owner]
    segment.path.unlink()
    orphans.adopt(list_directory(tmp_path))
    assert dead.owner not in orphans.owners
    assert not (tmp_path / f"{dead.owner}{LOCK}").exists()
    orphans.close()
    others.close()
    ours.close()
    live.close()


def test_unfinished_orphans_are_adopted_again(tmp_path: Path) -> None:
    ours, dead = spool_in(tmp_path), spool_in(tmp_path)
    dead.append(access().line())
    os.close(dead._lock)
    first = Orphans(tmp_path, ours.owner)
    assert first.adopt(list_directory(tmp_path)) == [dead.owner]
    first.close()
    second = Orphans(tmp_path, ours.owner)
    assert second.adopt(list_directory(tmp_path)) == [dead.owner]
    second.close()
    ours.close()


def test_segments_without_a_lock_file_are_adopted(tmp_path: Path) -> None:
    ours, dead = spool_in(tmp_path), spool_in(tmp_path)
    dead.append(access().line())
    dead.close()
    (tmp_path / f"{dead.owner}{LOCK}").unlink()
    orphans = Orphans(tmp_path, ours.owner)
    assert orphans.adopt(list_directory(tmp_path)) == [dead.owner]
    orphans.close()
    ours.close()


def test_lock_of_a_removed_file_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two adopters opened one lock file. The first one finished and removed it before the second one locked it."""
    owner, descriptor = take_ownership(tmp_path)
    listing = list_directory(tmp_path)
    assert listing.owners == {owner}
    lock, locked = fcntl.flock, []

    def lock_too_late(opened: int, how: int) -> None:
        release_ownership(tmp_path, owner, descriptor)
        lock(opened, how)
        locked.append(opened)

    monkeypatch.setattr(fcntl, "flock", lock_too_late)
    orphans = Orphans(tmp_path, "1-00000000")
    assert orphans.adopt(listing) == []
    assert len(locked) == 1, "the lock itself succeeded"
    assert owner not in orphans.owners
    assert list(tmp_path.iterdir()) == []
    orphans.close()


def test_unknown_files_are_left_alone(tmp_path: Path) -> None:
    for name in ("README", "1.seg", ".nfs0001", "12-x.lock"):
        (tmp_path / name).write_text("x")
    (tmp_path / f"a{ASIDE}").write_bytes(b"12345")
    listing = list_directory(tmp_path)
    assert (list(listing.segments), listing.owners, listing.aside_bytes, listing.size) == ([], frozenset(), 5, 0)


def test_unusable_directory_raises_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number says it
        spool_in(tmp_path / "file")
    assert caught.value.errno in (errno.ENOTDIR, errno.EEXIST)
