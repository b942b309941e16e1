"""The files and directories of `dev`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DevPaths:
    """The paths below the data directory."""

    root: Path

    @property
    def env(self) -> Path:
        """The gateway's environment, which a shell can source."""
        return self.root / "dev.env"

    @property
    def config(self) -> Path:
        """The gateway's config file."""
        return self.root / "platform.yaml"

    @property
    def simulator_ready(self) -> Path:
        """The file in which the simulator writes its URLs."""
        return self.root / "simulator.json"

    @property
    def prometheus(self) -> Path:
        """The directory of Prometheus, with its data."""
        return self.root / "prometheus"

    @property
    def rules(self) -> Path:
        """The folder of the alert rules in a checkout; an installed package does not contain it."""
        return Path(__file__).resolve().parents[3] / "alerts"

    def pid(self, name: str) -> Path:
        """Return the file with a process's id."""
        return self.root / f"{name}.pid"

    def log(self, name: str) -> Path:
        """Return a process's log file."""
        return self.root / "logs" / f"{name}.log"
