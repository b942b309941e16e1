"""An OTLP receiver over HTTP that fails on command, on one port all the time."""

import threading
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tests.support.observability.tracing.otlp import GARBAGE, Received, http_receiver
from tests.support.servers.network.ports import free_port

SLOW_SECONDS = 1.0
FAULTS = ("refuses", "hangs", "fails", "slow", "garbage")
"""It refuses connections, does not respond, responds with 500, takes a second for each export, sends no HTTP."""
_STATUS = {"fails": 500, "garbage": GARBAGE}


class Collector:
    """A real receiver. `switch` chooses its fault, `recover` ends it."""

    def __init__(self) -> None:
        self.received = Received()
        self._port = free_port()
        self._fault = ""
        self._recovered = threading.Event()
        self._listening = ExitStack()
        self.received.fault = self._respond

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._port}"

    def switch(self, fault: str) -> None:
        """Begin a fault."""
        self._fault = fault
        self._recovered.clear()
        if fault == "refuses":
            self._listening.close()

    def recover(self) -> None:
        """End the fault. A request that hangs gets its response."""
        fault, self._fault = self._fault, ""
        self._recovered.set()
        if fault == "refuses":
            self._listen()

    def _listen(self) -> None:
        self._listening.enter_context(http_receiver(self.received, self._port))

    def _respond(self) -> int:
        if self._fault == "hangs":
            self._recovered.wait()
        if self._fault == "slow":
            time.sleep(SLOW_SECONDS)
        return _STATUS.get(self._fault, 200)

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recovered.set()
        self._listening.close()
