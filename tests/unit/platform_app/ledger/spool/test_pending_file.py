"""The file of pending lines: its growth, its failures, and what a reader finds in a damaged one."""

import mmap
import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from platform_app.ledger.spool import pending as pending_module
from platform_app.ledger.spool.pending import GROW_SLOTS, SLOT_BYTES, LeftBehind, PendingLines, boot_id, read_pending
from tests.support.ledger.events import open_files

LINE = b'{"a":1}\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "4711-0123abcd.pending"


def left_in(path: Path) -> LeftBehind:
    found = read_pending(path)
    assert found is not None
    return found


def test_slot_of_a_line_that_is_too_long_is_used_again(path: Path) -> None:
    pending = PendingLines(path)
    longest = b"{%b}\n" % (b"x" * (SLOT_BYTES - 3))
    assert pending.put(longest + b"\n") is None
    assert pending.put(longest) == 1
    assert pending.put(LINE) == 2
    assert list(left_in(path).lines) == [longest, LINE]
    assert not pending.replace(2, longest + b"\n")
    assert list(left_in(path).lines) == [longest, LINE], "the slot is as it was"
    pending.close()


def test_death_while_a_line_is_replaced_leaves_none(path: Path) -> None:
    """A reader must not take the first byte of the old line with a part of the new one for a line."""
    pending = PendingLines(path)
    pending.put(b'{"old":1}\n')

    class Dies:
        """The map of a process that is killed when it has written a part."""

        def __init__(self, mapped: mmap.mmap) -> None:
            self._mapped = mapped

        def __setitem__(self, where: Any, value: Any) -> None:
            if isinstance(where, slice):
                self._mapped[where.start : where.start + 5] = value[:5]
                raise KeyboardInterrupt
            self._mapped[where] = value

        def close(self) -> None:
            self._mapped.close()

    mapped = pending._map
    assert mapped is not None
    pending._map = Dies(mapped)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        pending.replace(1, b'{"new":2}\n')
    assert list(left_in(path).lines) == []
    pending.close()


def test_close_leaves_nothing_open_and_can_be_repeated(path: Path) -> None:
    before = open_files()
    pending = PendingLines(path)
    pending.close()  # there is no file yet
    for _ in range(GROW_SLOTS + 1):
        pending.put(LINE)
    mapped = pending._map
    assert mapped is not None
    pending.close()
    assert (open_files(), mapped.closed) == (before, True)
    pending.close()
    pending.clear(1)
    assert len(left_in(path).lines) == GROW_SLOTS + 1, "what was pending stays for the next process"
    assert open_files() == before


def test_file_that_is_gone_at_the_close_is_accepted(path: Path) -> None:
    pending = PendingLines(path)
    slot = pending.put(LINE)
    assert slot is not None
    pending.clear(slot)
    path.unlink()
    pending.close()


def test_growth_closes_the_smaller_map(path: Path) -> None:
    pending = PendingLines(path)
    pending.put(LINE)
    smaller = pending._map
    assert smaller is not None
    for _ in range(GROW_SLOTS):
        pending.put(LINE)
    assert smaller.closed
    pending.close()


def test_file_of_another_process_is_left_alone(path: Path) -> None:
    path.write_bytes(b"its lines")
    pending = PendingLines(path)
    assert pending.put(LINE) is None
    assert path.read_bytes() == b"its lines"
    pending.close()


def test_part_of_the_room_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapped page without room on the disk would end the process."""
    pending, write = PendingLines(path), os.pwrite

    def write_a_part(descriptor: int, data: bytes, offset: int) -> int:
        return write(descriptor, data[: len(data) // 2] if offset else data, offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", write_a_part)
        with capture_logs() as logs:
            assert pending.put(LINE) is None
    assert logs[0]["why"] == "the disk took only a part of the room for more lines"
    before = open_files()
    pending.close()
    assert (open_files(), path.exists()) == (before - 1, False)
    assert pending.put(LINE) == 1, "and again when there is room"
    pending.close()


def test_failure_is_logged_once_until_there_is_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "GROW_SLOTS", 1)
    pending = PendingLines(path)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    def unmappable(*_: object) -> None:
        raise ValueError("mmap length is greater than file size")

    with capture_logs() as logs:
        for module, name, fault in ((os, "pwrite", full), (os, "pwrite", full), (mmap, "mmap", unmappable)):
            assert pending.put(LINE) is not None
            with monkeypatch.context() as patched:
                patched.setattr(module, name, fault)
                assert pending.put(LINE) is None
                assert pending.put(LINE) is None
    assert [line["why"] for line in logs] == ["No space left on device", "No space left on device", "ValueError"]
    pending.close()


def test_reader_takes_as_many_lines_as_a_process_may_have(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pending = PendingLines(path)
    lines = [b"[%d]\n" % number for number in range(4)]
    for line in lines:
        pending.put(line)
    pending.close()
    before = open_files()
    monkeypatch.setattr(pending_module, "MAX_SLOTS", 3)
    assert list(left_in(path).lines) == lines[:3]
    assert open_files() == before


@pytest.mark.parametrize("head", [b"", b"x", b"{", b"[1]", b"1", b"\xff"])
def test_damaged_head_costs_no_lines(path: Path, head: bytes) -> None:
    """Only whether the machine was restarted is unknown then, so nothing is charged."""
    pending = PendingLines(path, {"names": ["a"]})
    pending.put(LINE)
    pending.close()
    assert left_in(path).head == {"names": ["a"], "boot": boot_id()}
    with path.open("r+b") as file:
        file.write(head + b"\n")
    left = left_in(path)
    assert (list(left.lines), left.same_boot, left.head) == ([LINE], False, {})


def test_empty_file_has_no_lines(path: Path) -> None:
    path.touch()
    left = left_in(path)
    assert (list(left.lines), left.same_boot) == ([], False)


def test_boot_is_named_where_the_system_says_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(boot_id()) == 36

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", refuse)
    pending = PendingLines(path)
    pending.put(LINE)
    pending.close()
    assert orjson.loads(path.read_bytes().partition(b"\n")[0]) == {"boot": ""}


def test_file_that_was_removed_is_made_again_with_its_lines(path: Path) -> None:
    before = open_files()
    lines = PendingLines(path, {"version": 7})
    lines.restore()  # nothing is there yet
    slots = [lines.put(b'{"a":%d}\n' % number) for number in range(GROW_SLOTS + 3)]
    lines.clear(slots[4])  # type: ignore[arg-type]  # it was written
    opened = open_files()
    lines.restore()
    assert open_files() == opened
    path.unlink()
    earlier = lines._map
    assert earlier is not None
    with capture_logs() as logs:
        lines.restore()
    assert earlier.closed
    assert [(line["event"], line["lines"]) for line in logs] == [("ledger_pending_file_removed", GROW_SLOTS + 2)]
    assert open_files() == opened
    assert path.stat().st_mode & 0o777 == 0o600
    lines.replace(slots[0], b'{"a":"changed"}\n')  # type: ignore[arg-type]  # it was written
    assert lines.put(b'{"a":"new"}\n') == slots[4]
    left = left_in(path)
    assert left.head["version"] == 7
    assert left.lines[0] == b'{"a":"changed"}\n'
    assert b'{"a":"new"}\n' in left.lines
    assert len(left.lines) == GROW_SLOTS + 3
    for slot in slots:
        lines.clear(slot)  # type: ignore[arg-type]  # it was written
    lines.close()
    assert (path.exists(), open_files()) == (False, before)


def test_file_that_was_replaced_is_made_again(path: Path) -> None:
    lines = PendingLines(path)
    lines.put(LINE)
    path.unlink()
    path.write_bytes(b"a copy without the line")
    lines.restore()
    assert left_in(path).lines == [LINE]
    lines.close()


@pytest.mark.parametrize("taken", [0, SLOT_BYTES])
def test_file_that_finds_no_room_again_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    lines = PendingLines(path)
    lines.put(LINE)
    path.unlink()
    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *_: taken)
        with pytest.raises(OSError, match="No space left"):
            lines.restore()
    assert (path.exists(), open_files()) == (False, before)
    lines.restore()
    assert left_in(path).lines == [LINE]
    lines.close()
