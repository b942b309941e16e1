"""Lines that become events of the ledger if this process dies before it withdraws them.

Each process has one file, `<owner>.pending` in the spool directory, with a slot for each line: a call to a provider
that is not over yet (an intent), or a count that still grows. A line is in the system's page cache when `put` or
`replace` returns, as lines of the spool are. The process that adopts a dead one's spool takes its lines over
(recovery.py).

Slots are reused, so the file is as large as the most lines that there were at once.
"""

import contextlib
import heapq
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

SLOT_BYTES = 8 * 1024
"""Room for one line. A line of a call has some 500 bytes; one with every name at its longest has about 4,000."""
MAX_SLOTS = 20_000
_FREE = b"\n"

_log = get_logger("ledger")


class PendingLines:
    """The pending lines of this process. A line that cannot be written is counted and the request continues: only the
    end of the process would lose it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._free: list[int] = []
        self._used = 0
        self._failing = False

    def put(self, line: bytes) -> int | None:
        """Add a line, which ends in a line feed; its slot, or None where it could not be written."""
        if self._free:
            slot = heapq.heappop(self._free)  # the lowest one, so that the file stays small
        elif self._used < MAX_SLOTS:
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
        """Put another line into a slot; False where it could not be written, and the slot is as it was."""
        if len(line) > SLOT_BYTES:
            self._failed("a line is too long")
            return False
        return self._write(slot, line)

    def clear(self, slot: int) -> None:
        """Withdraw a line: its event is in the spool now."""
        self._write(slot, _FREE)
        heapq.heappush(self._free, slot)

    def close(self) -> None:
        """Close the file, and remove it if no line is left. Else the next process takes the lines over."""
        if self._descriptor is None:
            return
        os.close(self._descriptor)
        self._descriptor = None
        if len(self._free) == self._used:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _write(self, slot: int, data: bytes) -> bool:
        try:
            if self._descriptor is None:
                self._open()
            written = os.pwrite(self._descriptor, data, slot * SLOT_BYTES)  # type: ignore[arg-type]  # _open has set it
        except OSError as error:
            self._failed(error.strerror or type(error).__name__)
            return False
        if written != len(data):
            self._failed("the disk took only a part of a line")
            with contextlib.suppress(OSError):
                os.pwrite(self._descriptor, _FREE, slot * SLOT_BYTES)  # type: ignore[arg-type]
            return False
        self._failing = False
        return True

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        os.pwrite(self._descriptor, orjson.dumps({"boot": boot_id()}, option=orjson.OPT_APPEND_NEWLINE), 0)

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


def read_pending(path: Path) -> LeftBehind | None:
    """The lines that a dead process left; None where it left no file. OSError where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        size = min(os.fstat(descriptor).st_size, (MAX_SLOTS + 1) * SLOT_BYTES)
        # Slot by slot: a process that had many requests at once leaves a large file of few lines.
        slots = (os.pread(descriptor, SLOT_BYTES, offset) for offset in range(0, size, SLOT_BYTES))
        head, *lines = [slot.partition(b"\n") for slot in slots] or [(b"", b"", b"")]
    finally:
        os.close(descriptor)
    whole = [line + end for line, end, _ in lines if end and line.startswith(b"{")]
    return LeftBehind(whole, _boot_of(head[0]) == boot_id())


def boot_id() -> str:
    """What tells one start of this machine from the next; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _boot_of(head: bytes) -> object:
    try:
        members = orjson.loads(head)
    except orjson.JSONDecodeError:
        return None
    return members.get("boot") if isinstance(members, dict) else None
