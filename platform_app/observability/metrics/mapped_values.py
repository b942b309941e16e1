"""Metric values in memory-mapped files, as in prometheus_client's multiprocess mode, at a sixth of the cost.

A request changes about forty values. prometheus_client reads the process id at each change, in case of a fork, looks up
the value's position in the file, and writes it. Workers never fork, a value keeps its position, and one writing covers
all changes since the last one. prometheus_client still creates and reads the files, with blocks reserved
by reserved_files.py.
"""

import os
from struct import Struct
from threading import Lock
from typing import Any

from prometheus_client import values

from platform_app.observability.metrics.changes import CHANGES
from platform_app.observability.metrics.reserved_files import WAITING, ReservedFile

_pack = Struct(b"dd").pack
_SIZE = 16


def mapped_value_class() -> type:
    """Return a class for `prometheus_client.values.ValueClass`, for a process that does not fork."""
    pid = os.getpid()
    library: Any = values
    library.MmapedDict = ReservedFile
    made: Any = values.MultiProcessValue(lambda: pid)  # type: ignore[no-untyped-call]  # no types there
    lock = Lock()

    class MappedValue(made):  # type: ignore[misc]  # no types there
        """A number in the file of its process."""

        _value: float

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._start: int | None = self._file.place(self._key)
            if self._start is None:
                WAITING.add(self)
            self._changed = False

        def inc(self, amount: float = 1) -> None:
            """Add to the number."""
            # Without a lock: CPython changes threads at calls and backward jumps only, and this line has neither.
            self._value += amount
            if not self._changed:
                self._changed = True
                CHANGES.add(self)

        def set(self, value: float, timestamp: float | None = None) -> None:
            """Replace the number."""
            self._value, self._timestamp = value, timestamp or 0.0
            if not self._changed:
                self._changed = True
                CHANGES.add(self)

        def write(self) -> None:
            """Write the number into the file."""
            self._changed = False  # first: a change from now on is announced again
            with lock:
                if self._start is not None:
                    self._put(self._start)
                    return
                placed = WAITING.place()
            if not placed:
                WAITING.log_once()  # without the lock, because the log counts its lines

        def give_place(self) -> bool:
            """Write the number if the file has room for it now. Return whether it has."""
            self._start = self._file.place(self._key)
            if self._start is not None:
                self._put(self._start)
            return self._start is not None

        def _put(self, start: int) -> None:
            # One assignment, so a reader never sees half of the number, as it could with pack_into. The mapping is
            # read each time, because it is replaced when the file grows.
            self._file._m[start : start + _SIZE] = _pack(self._value, self._timestamp)

    return MappedValue
