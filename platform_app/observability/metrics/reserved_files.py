"""Files of metric values whose blocks are reserved on the disk before they are mapped.

prometheus_client's files are sparse. A process that writes to a mapped page for which the disk has no block is killed
by SIGBUS. So each file gets its blocks first; values for which the disk has no room are counted in memory, and get a
place in the file as soon as there is room.
"""

import errno
import os
import time
from typing import Any, Protocol

from prometheus_client import mmap_dict

FIRST_BYTES = 1 << 16
RETRY_SECONDS = 5.0
"""The shortest time between two attempts to reserve room for values that have none."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_HEAD, _NUMBERS, _ALIGNMENT = 4, 16, 8
"""Bytes of an entry before and after its key, and the multiple to which its key is filled up."""
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL)


class Waiting(Protocol):
    """A value that has no place in its file yet."""

    def give_place(self) -> bool:
        """Write the value if its file has room for it now. Return whether it has."""
        ...


class WaitingValues:
    """The values of this process that have no place in their files, in the order of their making."""

    def __init__(self) -> None:
        self._values: list[Waiting] = []
        self._retry_at = 0.0
        self._logged = False

    def add(self, value: Waiting) -> None:
        """Note a value that got no place."""
        self._values.append(value)

    def place(self) -> bool:
        """Write the values that wait, if there is room for them now. Return whether none waits any more."""
        if time.monotonic() < self._retry_at:
            return False
        self._retry_at = time.monotonic() + RETRY_SECONDS
        while self._values and self._values[0].give_place():
            del self._values[0]
        return not self._values

    def log_once(self) -> None:
        """Say that values are missing from scrapes. Apart from `add`, which the imports call before logging is set
        up."""
        if not self._logged:
            self._logged = True
            from platform_app.observability.logging import get_logger  # noqa: PLC0415 - it imports the metrics

            get_logger("metrics").error(
                "metrics_disk_full",
                directory=os.environ.get("PROMETHEUS_MULTIPROC_DIR"),
                advice="free space, or set TMPDIR to another disk; what has no place is counted in memory",
            )


class ReservedFile(mmap_dict.MmapedDict):
    """The values of one kind of metric, in a file with room on the disk for each of them."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        """Open the file, or make it. `read_mode` as in prometheus_client."""
        self._name = filename
        self._opened = read_mode or self._reserve_first()
        if self._opened:
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]  # no types there
        else:
            self._f: Any = None
            self._m: Any = None
            self._positions: dict[str, int] = {}

    def read_value(self, key: str) -> tuple[float, float]:
        """Return a value and its time, and give it a place in the file if there is room."""
        if self.place(key) is None:
            return 0.0, 0.0
        value: tuple[float, float] = super().read_value(key)  # type: ignore[no-untyped-call]  # no types there
        return value

    def place(self, key: str) -> int | None:
        """Return where the value is in the file; None if the disk has no room for it."""
        if (known := self._positions.get(key)) is not None:
            return known
        if not self._opened and self._reserve_first():
            self._opened = True
            super().__init__(self._name)  # type: ignore[no-untyped-call]  # no types there
        if not self._opened or not self._grow_for(key):
            return None
        self._init_value(key)  # type: ignore[no-untyped-call]  # no types there
        return self._positions[key]

    def _grow_for(self, key: str) -> bool:
        length = len(key.encode())
        needed = self._used + _HEAD + length + _ALIGNMENT + _NUMBERS
        capacity = self._capacity
        while needed > capacity:
            capacity *= 2
        return capacity == self._capacity or _reserve(self._f.fileno(), self._capacity, capacity)

    def _reserve_first(self) -> bool:
        """Make the file with its first blocks. Without room there is no file: readers fail on an empty one."""
        try:
            descriptor = os.open(self._name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return False
        try:
            size = os.fstat(descriptor).st_size
            if _reserve(descriptor, 0 if size == 0 else size, max(size, FIRST_BYTES)):
                return True
            if size == 0:
                os.unlink(self._name)
            return False
        finally:
            os.close(descriptor)


def _reserve(descriptor: int, size: int, wanted: int) -> bool:
    """Give a file of this size its blocks up to the wanted size. Return whether the disk has room."""
    try:
        os.posix_fallocate(descriptor, 0, wanted)
    except OSError as error:
        if error.errno in _NOT_SUPPORTED:
            return _write_zeros(descriptor, size, wanted)
        if error.errno not in _FULL:
            raise
        return False
    return True


def _write_zeros(descriptor: int, size: int, wanted: int) -> bool:
    zeros = bytes(wanted - size)
    try:
        while zeros:
            written = os.pwrite(descriptor, zeros, wanted - len(zeros))
            zeros = zeros[written:]
    except OSError as error:
        if error.errno not in _FULL:
            raise
        return False
    return True


WAITING = WaitingValues()
"""Of this process."""
