"""Lines that become events of the ledger if this process dies before it withdraws them.

Each process has one file, `<owner>.pending` in the spool directory, with a slot for each line: a call to a provider
that is not over yet (an intent), or a count that still grows. The file is mapped into memory, so that a line takes no
system call: it is in the system's page cache when `put` or `replace` returns, as lines of the spool are. The process
that adopts a dead process's spool recovers its lines (recovery.py).

Slots are reused, so the file is as large as the most lines that there were at once. It grows by writing zeros: a full
disk refuses that, where a mapped page without room on the disk would end the process.
"""

import contextlib
import errno
import heapq
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from platform_app.ledger.spool.segments import is_still_at
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

SLOT_BYTES = 8 * 1024
"""Room for one line. A line of a call has some 500 bytes; one with every name at its longest has about 4,000."""
MAX_SLOTS = 20_000
GROW_SLOTS = 16
"""Slots that are added when there are too few."""
_FREE = ord("\n")

_log = get_logger("ledger")


class PendingLines:
    """The pending lines of this process. A line that cannot be written is counted and the request continues: only the
    end of the process would lose it."""

    def __init__(self, path: Path, head: Mapping[str, Any] | None = None) -> None:
        """`head`: what the reader of the lines must know, see LeftBehind.head."""
        self._path = path
        self._head = head or {}
        self._descriptor: int | None = None
        self._map: mmap.mmap | None = None
        self._free: list[int] = []
        self._used = 0
        self._there = 0
        self._failing = False

    def put(self, line: bytes) -> int | None:
        """Add a line, which ends in a line feed; its slot, or None where it could not be written."""
        if self._free:
            slot = heapq.heappop(self._free)  # the lowest one, so that the file stays small
        elif self._used < MAX_SLOTS:
            if self._used == self._there and not self._grow():
                return None
            self._used += 1
            slot = self._used  # the first slot of the file is its head
        else:
            self._failed("there are too many lines")
            return None
        if self.replace(slot, line):
            return slot
        heapq.heappush(self._free, slot)
        return None

    def replace(self, slot: int, line: bytes) -> bool:
        """Put another line into a slot; False where it is too long, and the slot is as it was."""
        size = len(line)
        if size > SLOT_BYTES:
            self._failed("a line is too long")
            return False
        mapped, start = self._map, slot * SLOT_BYTES
        assert mapped is not None  # noqa: S101 - for mypy: there is a slot, so the file is mapped
        # A line counts from when its first byte is there, so no reader finds half of one.
        mapped[start] = _FREE
        mapped[start + 1 : start + size] = line[1:]
        mapped[start] = line[0]
        return True

    def clear(self, slot: int) -> None:
        """Withdraw a line: its event is in the spool now."""
        if self._map is not None:
            self._map[slot * SLOT_BYTES] = _FREE
            heapq.heappush(self._free, slot)

    def restore(self) -> None:
        """Make the file again if it was removed or replaced while lines were in it: a `kill -9` would lose them.

        Raises:
            OSError: the directory cannot be written.
        """
        if self._map is None or is_still_at(self._path, self._descriptor):  # type: ignore[arg-type]  # open with the map
            return
        old, lines = self._map, len(self._map)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if os.pwrite(descriptor, old, 0) != lines:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._map = mmap.mmap(descriptor, lines)
        except BaseException:
            os.close(descriptor)
            self._path.unlink()
            raise
        old.close()
        os.close(self._descriptor)  # type: ignore[arg-type]  # open with the map
        self._descriptor = descriptor
        _log.error("ledger_pending_file_removed", lines=self._used - len(self._free))

    def close(self) -> None:
        """Close the file, and remove it if no line is left. Else the next process takes the lines over."""
        if self._descriptor is None:
            return
        if self._map is not None:
            self._map.close()
        os.close(self._descriptor)
        self._descriptor = self._map = None
        if len(self._free) == self._used:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _grow(self) -> bool:
        """Make room for more slots; False where the disk has none."""
        try:
            if self._descriptor is None:
                self._open()
            more = bytes(GROW_SLOTS * SLOT_BYTES)
            written = os.pwrite(self._descriptor, more, (self._there + 1) * SLOT_BYTES)  # type: ignore[arg-type]  # open
            if written != len(more):
                raise OSError(0, "the disk took only a part of the room for more lines")
            there = self._there + GROW_SLOTS
            mapped = mmap.mmap(self._descriptor, (there + 1) * SLOT_BYTES)  # type: ignore[arg-type]  # open
        except (OSError, ValueError) as error:
            self._failed(getattr(error, "strerror", None) or type(error).__name__)
            return False
        if self._map is not None:
            self._map.close()
        self._map, self._there, self._failing = mapped, there, False
        return True

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        self._descriptor = os.open(self._path, flags, 0o600)
        head = orjson.dumps({**self._head, "boot": boot_id()}, option=orjson.OPT_APPEND_NEWLINE)
        os.pwrite(self._descriptor, head, 0)

    def _failed(self, why: str) -> None:
        metrics.LEDGER_PENDING_FAILURES.inc()
        if not self._failing:
            self._failing = True
            _log.error("ledger_pending_line_failed", why=why)


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """The pending lines of a dead process."""

    lines: Sequence[bytes]
    same_boot: bool
    """False after a restart of the machine: the file may be older than what the process knew when it died."""
    head: Mapping[str, Any] = field(default_factory=dict)
    """The values that the process wrote for the reader of its lines."""


def read_pending(path: Path) -> LeftBehind | None:
    """The lines that a dead process left; None where it left no file. OSError where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        size = min(os.fstat(descriptor).st_size, (MAX_SLOTS + 1) * SLOT_BYTES)
        # Slot by slot: a process that had many requests at once leaves a large file of few lines.
        slots = (os.pread(descriptor, SLOT_BYTES, offset) for offset in range(0, size, SLOT_BYTES))
        head, *lines = [slot.partition(b"\n") for slot in slots] or [(b"", b"", b"")]
    finally:
        os.close(descriptor)
    whole = [line + end for line, end, _ in lines if end and line.startswith((b"{", b"["))]
    members = _members(head[0])
    return LeftBehind(whole, members.get("boot") == boot_id(), members)


def boot_id() -> str:
    """Return what distinguishes one start of this machine from the next; empty if the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _members(head: bytes) -> Mapping[str, Any]:
    try:
        members = orjson.loads(head)
    except orjson.JSONDecodeError:
        return {}
    return members if isinstance(members, dict) else {}
