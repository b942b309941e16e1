"""What the parent process needs to know. `serve` hands it over in one environment variable when it becomes the parent.

The parent does not read the settings: pydantic and what comes with it would more than double its memory.
"""

import json
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass
from typing import Literal, Self

from platform_app.observability.logs.level import Level

OPTIONS_VARIABLE = "FLOWBIZ_SERVE_OPTIONS"


@dataclass(frozen=True, slots=True)
class ParentOptions:
    """Ports, workers, times and logs of one parent. None of it is secret."""

    host: str
    port: int
    metrics_port: int
    workers: int
    worker_timeout_seconds: float
    shutdown_drain_seconds: float
    shutdown_grace_seconds: float
    metrics_cache_seconds: float
    log_level: Level
    log_format: Literal["json", "console"]
    log_repeats_per_second: int
    exports_traces: bool
    listening: int
    """The descriptor of the public port's socket."""
    metrics_listening: int
    """The descriptor of the metrics port's socket."""

    def store(self, environment: MutableMapping[str, str]) -> None:
        """Write the options into an environment."""
        environment[OPTIONS_VARIABLE] = json.dumps(asdict(self))

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Self:
        """Remove the options from the environment and return them."""
        return cls(**json.loads(environment.pop(OPTIONS_VARIABLE)))
