"""What the spool does with lines whose file was removed, replaced by a copy, or cannot be seen."""

import errno
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from platform_app.ledger.spool.segments import OPEN, list_directory
from platform_app.ledger.spool.spool import Spool
from tests.support.fakes.core import Count
from tests.support.ledger.events import access, is_failing, spool_in


@pytest.mark.parametrize("sync", [False, True])
def test_lines_of_a_removed_file_are_written_again(tmp_path: Path, sync: bool) -> None:
    """A cleaner of temporary files removes the directory while a segment is open: nothing is lost."""
    spool = spool_in(tmp_path / "spool", keep_for_sync=sync)
    lines = [access(request_id=f"r{number}").line() for number in range(3)]
    spool.append(lines[0])
    spool.append(lines[1])
    shutil.rmtree(spool.directory)
    failures = Count("platform_ledger_spool_failures_total")
    with capture_logs() as logs:
        spool.roll()
    assert (failures.grown, spool.size) == (1, 0)
    assert [(line["event"], line["lines"]) for line in logs] == [("ledger_segment_removed", 2)]
    spool.append(lines[2])
    assert is_failing(spool)
    spool.directory.mkdir()
    spool.retry()
    assert not is_failing(spool)
    spool.roll()
    content = b"".join(segment.path.read_bytes() for segment in list_directory(spool.directory).segments)
    assert sorted(content.splitlines(keepends=True)) == sorted(lines)
    spool.close()


def test_removed_file_that_cannot_be_read_back_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = spool_in(tmp_path)
    for _ in range(3):
        spool.append(access().line())
    for segment in list_directory(tmp_path).segments:
        segment.path.unlink()

    def refuse(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    dropped = Count("platform_ledger_dropped_total", reason="spool_failing")
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(os, "pread", refuse)
        spool.roll()
    assert (dropped.grown, spool.size) == (3, 0)
    assert [(line["event"], line["lines"], line["why"]) for line in logs] == [
        ("ledger_lines_lost", 3, "Input/output error")
    ]
    spool.append(access().line())
    assert len(list_directory(tmp_path).segments) == 1
    spool.close()


def test_lines_of_a_file_replaced_by_a_copy_are_written_again(tmp_path: Path) -> None:
    """An operator copies the spool to another disk and back: the name is there, and the open file is another one."""
    spool = spool_in(tmp_path)
    lines = [access(request_id=f"r{number}").line() for number in range(2)]
    spool.append(lines[0])
    [segment] = list_directory(tmp_path).segments
    shutil.copy(segment.path, tmp_path / "copy")
    (tmp_path / "copy").replace(segment.path)
    spool.append(lines[1])
    spool.roll()
    spool.retry()
    spool.roll()
    content = b"".join(each.path.read_bytes() for each in list_directory(tmp_path).segments)
    assert set(content.splitlines(keepends=True)) == set(lines), "the first is there twice, with one event id"
    spool.close()


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_directory_that_cannot_be_seen_fails_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refused(*_: object) -> NoReturn:
        raise OSError(error, os.strerror(error))

    line = access().line()
    spool = Spool(tmp_path, max_bytes=10**6, segment_bytes=1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "lstat", refused)
        patch.setattr(Path, "rename", refused)
        spool.append(line)  # it fills its segment, which cannot be closed
    spool.close()
    assert [path.read_bytes() for path in tmp_path.iterdir() if path.suffix == OPEN] == [line]


def test_lines_of_a_directory_that_became_a_file_are_kept(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    line = access().line()
    spool = Spool(directory, max_bytes=10**6)
    spool.append(line)
    directory.rename(tmp_path / "moved")
    directory.write_text("")
    spool.roll()
    directory.unlink()
    directory.mkdir()
    spool.retry()
    spool.close()
    assert [path.read_bytes() for path in directory.iterdir()] == [line]


def test_removed_file_is_noticed_by_the_end_of_the_process(tmp_path: Path) -> None:
    spool, line = spool_in(tmp_path), access().line()
    spool.append(line)
    for segment in list_directory(tmp_path).segments:
        segment.path.unlink()
    spool.close()
    [segment] = list_directory(tmp_path).segments
    assert (segment.path.read_bytes(), segment.closed) == (line, True)
