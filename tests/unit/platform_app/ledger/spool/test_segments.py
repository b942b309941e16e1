"""What a listing finds in a directory, what is dropped first, and who owns what."""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from platform_app.ledger.spool import segments
from platform_app.ledger.spool.segments import (
    LOCK,
    PENDING,
    WITHOUT_LOCK_SECONDS,
    Orphans,
    drop_oldest,
    list_directory,
    release_ownership,
    restore_ownership,
    segment_path,
    take_ownership,
)
from tests.support.fakes.core import FakeClock
from tests.support.ledger.events import access, open_files, spool_in

NOW_MS = 1_790_000_000_000
ONE, TWO, THREE = "4711-0123abcd", "4712-0123abcd", "4713-0123abcd"
OURSELVES = "1-00000000"


def closed(directory: Path, created_ms: int, owner: str = ONE, data: bytes = b"[1]\n[2]\n") -> Path:
    path = segment_path(directory, created_ms, owner, 1).with_suffix(".seg")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("backwards", [False, True])
def test_no_file_hides_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backwards: bool) -> None:
    """Whatever order the system lists them in, and though one goes meanwhile."""
    first, last = closed(tmp_path, NOW_MS, ONE, b"123"), closed(tmp_path, NOW_MS + 9, TWO, b"4567")
    gone = closed(tmp_path, NOW_MS + 5)
    for name, size in ((f"{THREE}.lock", 0), (f"{THREE}.pending", 50), ("x.seg", 50), ("a.bad", 5), ("z.bad", 7)):
        (tmp_path / name).write_bytes(b"x" * size)
    scan = os.scandir

    @contextmanager
    def scan_in_order(directory: Path) -> Iterator[list[os.DirEntry[str]]]:
        with scan(directory) as entries:
            found = sorted(entries, key=lambda entry: entry.name, reverse=backwards)
        gone.unlink()
        yield found

    monkeypatch.setattr(os, "scandir", scan_in_order)
    listing = list_directory(tmp_path)
    assert [segment.path for segment in listing.segments] == [first, last]
    assert (listing.size, listing.aside_bytes) == (7, 12)
    assert listing.owners == frozenset({ONE, TWO, THREE})
    assert listing.unfinished == frozenset({THREE})


@pytest.mark.parametrize("current", [4, 12])
def test_names_say_version_and_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, current: int) -> None:
    """A segment without a version is of the first one; those of later versions belong to other processes."""
    if current != 4:
        monkeypatch.setattr(segments, "LINE_VERSION", current)
    start = f"{NOW_MS}-{ONE}-0000"
    for name in ("01.seg", "02.v2.seg", "03.v3.open", "98.v1.seg", "99.v03.seg"):
        (tmp_path / f"{start}{name}").touch()
    for version in (current, current + 1):
        (tmp_path / f"{start}{version + 10}.v{version}.seg").touch()
    found = [(each.sequence, each.version, each.closed) for each in list_directory(tmp_path).segments]
    assert found == [(1, 1, True), (2, 2, True), (3, 3, False), (current + 10, current, True)]
    assert segment_path(tmp_path, NOW_MS, ONE, 17).name == f"{start}17.v{current}.open"


def test_link_counts_as_itself(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(b"x" * 100_000)
    closed(tmp_path, NOW_MS).unlink()
    closed(tmp_path, NOW_MS + 1).unlink()
    segment_path(tmp_path, NOW_MS, ONE, 1).with_suffix(".seg").symlink_to(target)
    segment_path(tmp_path, NOW_MS + 1, ONE, 1).with_suffix(".seg").symlink_to(tmp_path / "none")
    listing = list_directory(tmp_path)
    assert len(listing.segments) == 2
    assert listing.size < 10_000


def test_drop_ends_when_enough_is_gone(tmp_path: Path) -> None:
    paths = [closed(tmp_path, NOW_MS + number) for number in range(4)]
    assert drop_oldest(list_directory(tmp_path), 16) == (4, 16)
    assert [path.exists() for path in paths] == [False, False, True, True]
    assert drop_oldest(list_directory(tmp_path), 1) == (2, 8)
    assert drop_oldest(list_directory(tmp_path), 0) == (0, 0)
    assert [path.exists() for path in paths] == [False, False, False, True]


def test_drop_passes_over_open_and_shipped_segments(tmp_path: Path) -> None:
    written = segment_path(tmp_path, NOW_MS, ONE, 1)
    written.write_bytes(b"[1]\n")
    shipped, last = closed(tmp_path, NOW_MS + 1), closed(tmp_path, NOW_MS + 2)
    listing = list_directory(tmp_path)
    shipped.unlink()
    assert drop_oldest(listing, 8) == (2, 8)
    assert (written.exists(), last.exists()) == (True, False)


def test_lock_is_private_and_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, descriptor = take_ownership(tmp_path)
    [lock] = tmp_path.iterdir()
    assert (lock.name, stat.S_IMODE(lock.stat().st_mode)) == (f"{owner}{LOCK}", 0o600)
    monkeypatch.setattr(secrets, "token_hex", lambda _: owner.partition("-")[2])
    with pytest.raises(FileExistsError):
        take_ownership(tmp_path)
    release_ownership(tmp_path, owner, descriptor)


def test_name_that_was_adopted_at_once_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, tries = fcntl.flock, list[int]()

    def lose_the_first(descriptor: int, how: int) -> None:
        tries.append(descriptor)
        if len(tries) == 1:
            raise BlockingIOError
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lose_the_first)
    before = open_files()
    owner, descriptor = take_ownership(tmp_path)
    assert open_files() == before + 1
    assert len(list(tmp_path.iterdir())) == 2
    release_ownership(tmp_path, owner, descriptor)
    assert open_files() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_release_without_a_lock_file_still_closes(tmp_path: Path) -> None:
    before = open_files()
    owner, descriptor = take_ownership(tmp_path)
    (tmp_path / f"{owner}{LOCK}").unlink()
    release_ownership(tmp_path, owner, descriptor)
    assert open_files() == before


def locked_by_another(path: Path) -> bool:
    """Return whether some descriptor holds the lock of a file."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_lock_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    owner, descriptor = take_ownership(tmp_path)
    before = open_files()
    assert restore_ownership(tmp_path, owner, descriptor) == descriptor
    assert open_files() == before
    release_ownership(tmp_path, owner, descriptor)


@pytest.mark.parametrize("replaced", [False, True])
def test_lock_file_that_was_removed_is_made_again(tmp_path: Path, replaced: bool) -> None:
    owner, descriptor = take_ownership(tmp_path)
    path, before = tmp_path / f"{owner}{LOCK}", open_files()
    path.unlink()
    if replaced:
        path.touch(mode=0o600)
    restored = restore_ownership(tmp_path, owner, descriptor)
    assert locked_by_another(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_files() == before
    assert restore_ownership(tmp_path, owner, restored) == restored
    release_ownership(tmp_path, owner, restored)
    assert not path.exists()


def test_lock_that_another_process_took_is_left_to_it(tmp_path: Path) -> None:
    owner, descriptor = take_ownership(tmp_path)
    path = tmp_path / f"{owner}{LOCK}"
    path.unlink()
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        before = open_files()
        assert restore_ownership(tmp_path, owner, descriptor) == descriptor
        assert open_files() == before
    restored = restore_ownership(tmp_path, owner, descriptor)
    assert locked_by_another(path), "the other one has finished"
    release_ownership(tmp_path, owner, restored)


def test_lock_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    owner, descriptor = take_ownership(tmp_path)
    path = tmp_path / f"{owner}{LOCK}"
    path.unlink()
    (tmp_path / "elsewhere").touch()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        restore_ownership(tmp_path, owner, descriptor)
    os.close(descriptor)


@pytest.fixture
def orphans(tmp_path: Path) -> Iterator[Orphans]:
    orphans = Orphans(tmp_path, OURSELVES)
    yield orphans
    orphans.close()


def test_adoption_is_bounded(tmp_path: Path, orphans: Orphans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "MAX_ADOPTED", 2)
    paths = [closed(tmp_path, NOW_MS, owner) for owner in (ONE, TWO, THREE)]
    assert orphans.adopt(list_directory(tmp_path)) == [ONE, TWO]
    assert orphans.adopt(list_directory(tmp_path)) == []
    assert orphans.adopted() == [ONE, TWO]
    paths[0].unlink()
    assert orphans.adopt(list_directory(tmp_path)) == [THREE], "one has nothing left"
    assert orphans.adopted() == [TWO, THREE]


def test_failed_recovery_stops_no_other(tmp_path: Path, orphans: Orphans) -> None:
    for owner in (ONE, TWO):
        closed(tmp_path, NOW_MS, owner)
    before = open_files()

    def recover(owner: str) -> None:
        if owner == ONE:
            raise OSError(28, "No space left on device")

    assert orphans.adopt(list_directory(tmp_path), recover) == [TWO]
    assert open_files() == before + 1
    assert orphans.adopt(list_directory(tmp_path)) == [ONE]


def test_bug_in_recovery_leaves_the_owner(tmp_path: Path, orphans: Orphans) -> None:
    closed(tmp_path, NOW_MS)
    before = open_files()

    def recover(owner: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        orphans.adopt(list_directory(tmp_path), recover)
    assert (orphans.adopted(), open_files()) == ([], before)
    assert orphans.adopt(list_directory(tmp_path)) == [ONE]


def test_close_releases_all_and_can_be_repeated(tmp_path: Path) -> None:
    before = open_files()
    orphans = Orphans(tmp_path, OURSELVES)
    for owner in (ONE, TWO):
        closed(tmp_path, NOW_MS, owner)
    orphans.adopt(list_directory(tmp_path))
    orphans.close()
    orphans.close()
    assert (orphans.adopted(), open_files()) == ([], before)


def test_lock_that_adoption_makes_is_private(tmp_path: Path, orphans: Orphans) -> None:
    closed(tmp_path, NOW_MS)
    orphans.adopt(list_directory(tmp_path))
    assert stat.S_IMODE((tmp_path / f"{ONE}{LOCK}").stat().st_mode) == 0o600


def test_lock_that_is_a_link_is_not_followed(tmp_path: Path, orphans: Orphans) -> None:
    closed(tmp_path, NOW_MS)
    (tmp_path / "elsewhere").touch()
    (tmp_path / f"{ONE}{LOCK}").symlink_to(tmp_path / "elsewhere")
    assert orphans.adopt(list_directory(tmp_path)) == []


def test_live_owner_is_left_with_its_lock(tmp_path: Path, orphans: Orphans) -> None:
    spool = spool_in(tmp_path)
    spool.append(access().line())
    before = open_files()
    assert orphans.adopt(list_directory(tmp_path)) == []
    assert open_files() == before
    spool.close()


def test_own_segments_are_never_adopted(tmp_path: Path) -> None:
    closed(tmp_path, NOW_MS)
    recovered: list[Any] = []
    orphans = Orphans(tmp_path, ONE)
    assert orphans.adopt(list_directory(tmp_path), recovered.append) == []
    assert recovered == []
    orphans.close()


@pytest.mark.parametrize("sign", ["segment", "pending"])
def test_owner_at_work_without_a_lock_file_is_waited_for(
    tmp_path: Path, orphans: Orphans, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(segments, "time", SimpleNamespace(monotonic=clock))
    file = segment_path(tmp_path, NOW_MS, ONE, 1) if sign == "segment" else tmp_path / f"{ONE}{PENDING}"
    file.write_bytes(b"[1]\n")
    assert orphans.adopt(list_directory(tmp_path)) == []
    clock.advance(9.9)
    assert orphans.adopt(list_directory(tmp_path)) == []
    clock.advance(0.1)
    assert orphans.adopt(list_directory(tmp_path)) == [ONE]


def test_lock_file_that_came_back_starts_the_wait_again(
    tmp_path: Path, orphans: Orphans, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(segments, "time", SimpleNamespace(monotonic=clock))
    spool = spool_in(tmp_path)
    spool.append(access().line())
    lock = tmp_path / f"{spool.owner}{LOCK}"
    lock.unlink()
    assert orphans.adopt(list_directory(tmp_path)) == []
    spool.keep_ownership()
    clock.advance(WITHOUT_LOCK_SECONDS)
    assert orphans.adopt(list_directory(tmp_path)) == []
    lock.unlink()
    assert orphans.adopt(list_directory(tmp_path)) == [], "it was there meanwhile"
    spool.keep_ownership()
    spool.close()
