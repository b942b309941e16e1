"""The append-only spool of one process: a line is in the system's page cache when `append` returns.

That survives the end of the process in any way, and not the end of the machine: see docs/adr/0004-ledger.md.
Everything here runs in the event loop's thread, but for `Spool.sync`, and takes microseconds.
"""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from platform_app.errors import LedgerUnavailable
from platform_app.ledger.spool.segments import (
    CLOSED,
    Listing,
    Segment,
    is_still_at,
    release_ownership,
    restore_ownership,
    segment_path,
    take_ownership,
)
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

FullPolicy = Literal["refuse", "drop_oldest"]

SEGMENT_BYTES = 1024 * 1024
"""A segment is closed at this size; it is also the most that one transaction ships."""
BUFFER_LINES = 20_000
"""Lines that are kept in memory while the disk refuses them. Requests are refused long before that number."""
RETRY_AFTER_SECONDS = 5.0

_log = get_logger("ledger")


class Spool:
    """Appends lines, and closes segments for the writer."""

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        policy: FullPolicy = "refuse",
        segment_bytes: int = SEGMENT_BYTES,
        keep_for_sync: bool = False,
    ) -> None:
        """Make the directory (mode 0700) if it is missing, and take a new owner in it.

        Args:
            directory: shared by the workers of this deployment on this machine, and by no other deployment.
            max_bytes: what all files in it may take together before the policy is applied.
            policy: refuse requests, or drop the oldest segments.
            segment_bytes: the size at which a segment is closed.
            keep_for_sync: closed segments are kept open until `sync` was called.

        Raises:
            OSError: the directory cannot be made or written.
        """
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory = directory
        self.owner, self._lock = take_ownership(directory)
        self.policy = policy
        self.max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._keep_for_sync = keep_for_sync
        self.wake_writer: Callable[[], None] = lambda: None
        """Called when a segment was closed because of its size."""
        self._descriptor: int | None = None
        self._path: Path
        self._written: int
        self._lines: int
        # All three are of the segment that is open.
        self._sequence = 0
        self._unsynced: list[int] = []
        self._buffer: deque[bytes] = deque()
        self._failure: str | None = None
        # What the directory held when it was last listed, and what we appended since.
        self._listed = 0
        self._appended = 0
        self._was_full = False

    @property
    def size(self) -> int:
        """Bytes in the directory that are not shipped, as far as this process knows."""
        return self._listed + self._appended

    @property
    def full(self) -> bool:
        """Whether the bound is reached."""
        return self.size >= self.max_bytes

    @property
    def failure(self) -> str | None:
        """Why the disk refused the last line; None if it took it."""
        return self._failure

    def keep_ownership(self) -> None:
        """Make the lock file again if it was removed: without it other processes take this one for dead.

        Raises:
            OSError: the directory cannot be written.
        """
        lock = restore_ownership(self.directory, self.owner, self._lock)
        if lock != self._lock:
            self._lock = lock
            _log.error("ledger_lock_removed", owner=self.owner)

    def admit(self) -> None:
        """Raise LedgerUnavailable if the policy is to refuse requests and a line would have no room."""
        if self.policy == "refuse" and (self._failure is not None or self.full):
            metrics.LEDGER_REFUSED.inc()
            raise LedgerUnavailable(
                "This instance cannot record requests right now, so it refuses them. Try again shortly.",
                retry_after=RETRY_AFTER_SECONDS,
            )

    def append(self, line: bytes) -> None:
        """Write one line, which ends in a line feed. If the disk refuses it, it is kept in memory for `retry`."""
        if self._failure is not None or not self._write(line):
            self._keep(line)

    def roll(self) -> None:
        """Close the segment that is being written, so that it can be shipped; the next line opens another."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        if is_still_at(self._path, descriptor):
            with contextlib.suppress(OSError):  # the segment is shipped all the same; only other workers do not drop it
                self._path.rename(self._path.with_suffix(CLOSED))
        else:
            self._take_back(descriptor)
        if self._keep_for_sync:
            self._unsynced.append(descriptor)
        else:
            os.close(descriptor)

    def _take_back(self, descriptor: int) -> None:
        """Keep the lines of a segment whose file was removed or replaced. They are readable: the file is open."""
        metrics.LEDGER_SPOOL_FAILURES.inc()
        self._appended -= self._written
        try:
            lines = os.pread(descriptor, self._written, 0).splitlines(keepends=True)
        except OSError as error:
            metrics.LEDGER_DROPPED.labels("spool_failing").inc(self._lines)
            _log.error("ledger_lines_lost", lines=self._lines, why=error.strerror)
            return
        _log.error("ledger_segment_removed", lines=len(lines))
        for line in lines:
            self._keep(line)

    def retry(self) -> None:
        """Write what the disk refused before, if there is any."""
        while self._buffer:
            if not self._write(self._buffer[0]):
                return
            self._buffer.popleft()
        if self._failure is not None:
            self._failure = None
            _log.warning("ledger_spool_recovered")

    def is_current(self, segment: Segment) -> bool:
        """Whether this is the segment that is being written."""
        return self._descriptor is not None and segment.identity == (self.owner, self._sequence)

    def measured(self, listing: Listing, appended_before: int) -> None:
        """Note what the directory contains.

        Args:
            listing: the directory.
            appended_before: `mark()` from before it was listed; what came later is added to it.
        """
        self._listed = listing.size
        self._appended -= appended_before
        if self.full != self._was_full:
            self._was_full = self.full
            log = _log.error if self.full else _log.warning
            log("ledger_spool_full" if self.full else "ledger_spool_has_room", bytes=self.size, policy=self.policy)

    def mark(self) -> int:
        """Return the number for `measured`."""
        return self._appended

    def removed(self, size: int) -> None:
        """Note that a file of this size was removed from the directory."""
        self._listed = max(0, self._listed - size)

    def excess(self) -> int:
        """How many bytes the policy wants dropped now."""
        return max(0, self.size - self.max_bytes) if self.policy == "drop_oldest" else 0

    def to_sync(self) -> list[int]:
        """Descriptors for `sync`; those of closed segments are handed over."""
        descriptors, self._unsynced = self._unsynced, []
        if self._descriptor is not None:
            descriptors.append(os.dup(self._descriptor))
        return descriptors

    @staticmethod
    def sync(descriptors: list[int]) -> None:
        """Force files to disk and close them. Takes milliseconds: call it in a thread."""
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """Close the segment and release the owner. Segments that were not shipped wait for the next process."""
        self.roll()
        self.retry()
        if self._buffer:
            metrics.LEDGER_DROPPED.labels("spool_failing").inc(len(self._buffer))
            _log.error("ledger_lines_lost", lines=len(self._buffer))
        self.roll()
        self.sync(self.to_sync())
        release_ownership(self.directory, self.owner, self._lock)

    def _write(self, line: bytes) -> bool:
        try:
            if self._descriptor is None:
                self._open()
            written = os.write(self._descriptor, line)  # type: ignore[arg-type]  # _open has set it
        except OSError as error:
            self._failed(error.strerror or type(error).__name__)
            return False
        if written != len(line):
            # The next line would be appended to the torn one, which readers expect only as the last line of a segment.
            self._failed("the disk took only a part of a line")
            return False
        self._written += written
        self._lines += 1
        self._appended += written
        if self._written >= self._segment_bytes:
            self.roll()
            self.wake_writer()
        return True

    def _open(self) -> None:
        path = segment_path(self.directory, time.time_ns() // 1_000_000, self.owner, self._sequence + 1)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._descriptor = os.open(path, flags, 0o600)
        self._sequence += 1
        self._path, self._written, self._lines = path, 0, 0

    def _failed(self, why: str) -> None:
        metrics.LEDGER_SPOOL_FAILURES.inc()
        self.roll()
        before, self._failure = self._failure, why
        if before is None:
            _log.error("ledger_spool_failing", why=why, policy=self.policy)

    def _keep(self, line: bytes) -> None:
        if len(self._buffer) >= BUFFER_LINES:
            self._buffer.popleft()
            metrics.LEDGER_DROPPED.labels("spool_failing").inc()
        self._buffer.append(line)
