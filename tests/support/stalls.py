"""How long this machine kept us waiting, which is nobody's fault that is tested here."""

import threading
import time
from types import TracebackType
from typing import Self

_NAP_SECONDS = 0.002


class Stalls:
    """While it is entered, a thread takes short naps; `longest_ms` is by how much the longest was too long.

    A thread of its own, so that code which blocks an event loop does not pass for a machine that stands still.
    """

    def __init__(self) -> None:
        self.longest_ms = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._nap, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _nap(self) -> None:
        while not self._over.is_set():
            started = time.monotonic()
            time.sleep(_NAP_SECONDS)
            self.longest_ms = max(self.longest_ms, 1000 * (time.monotonic() - started - _NAP_SECONDS))
