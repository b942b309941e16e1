"""What one process says about itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class ServerState:
    """Changed by the signal handler (draining) and the middleware (in_flight); read by both and by readyz. The lifespan
    writes down why it could not start."""

    draining: bool = False
    in_flight: int = 0
    configuration_problems: Sequence[str] = ()
    reload_config: Callable[[], None] | None = None
    """Reads the config file again; set while the resources are open."""
