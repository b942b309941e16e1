"""What a fault is, and actions that repeat until it ends."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import Enum

from tests.drill.runbook import Cause
from tests.drill.stage import Stage

_JOIN_SECONDS = 120.0


class Delivery(Enum):
    """What Alertmanager must do with an alert that fires."""

    SENT = "sent"
    INHIBITED = "inhibited"
    EITHER = "sent or inhibited"
    """Its cause can fire before or after it."""


@dataclass(frozen=True)
class Expected:
    """An alert that must fire during a fault, and what a query of its runbook must show meanwhile."""

    alert: str
    cause: Cause
    labels: Mapping[str, str] = field(default_factory=dict)
    delivery: Delivery = Delivery.SENT

    def __str__(self) -> str:
        labels = ", ".join(f"{name}={value}" for name, value in self.labels.items())
        return f"{self.alert} {{{labels}}}" if labels else self.alert


@dataclass(frozen=True)
class Fault:
    """A fault: the context manager `inject` begins it, and ends it when it is left."""

    name: str
    title: str
    inject: Callable[[Stage], AbstractContextManager[None]]
    expected: tuple[Expected, ...]
    also: frozenset[str] = frozenset()
    """Other alerts that this fault may cause. Any other page is a failure of the drill."""


@contextmanager
def repeatedly(action: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call the action in a thread, with a pause after each call, until the block is left."""
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            action()
            ended.wait(seconds)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_JOIN_SECONDS)
