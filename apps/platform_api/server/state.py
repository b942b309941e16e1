"""What one process says about itself."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class ServerState:
    """Changed by the signal handler (draining) and the middleware (in_flight); read by both and by readyz. The lifespan
    writes down why it could not start."""

    draining: bool = False
    in_flight: int = 0
    configuration_problems: Sequence[str] = ()
    start_error: Exception | None = None
    """Another error that ended the start."""
    tasks: "set[asyncio.Task[Any]]" = field(default_factory=set)
    """What the server waits for when it stops, beside connections; our worker puts the server's own set here."""
    ends_at: float | None = None
    """When the process is to have ended, by the monotonic clock; None until it is asked to stop."""
    reload_config: Callable[[], None] | None = None
    """Reads the config file again; set while the resources are open."""

    def seconds_left(self) -> float:
        """Return how long the process may still work after it was asked to stop."""
        return 0.0 if self.ends_at is None else max(0.0, self.ends_at - time.monotonic())
