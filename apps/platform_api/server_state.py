"""What one process says about itself."""

from dataclasses import dataclass


@dataclass(slots=True)
class ServerState:
    """Changed by the signal handler (draining) and the middleware (in_flight); read by both and by readyz."""

    draining: bool = False
    in_flight: int = 0
