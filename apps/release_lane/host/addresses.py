"""Where the instances of this host listen: the addresses of the environment file, which the gateway reads too."""

from apps.release_lane.environment_file import read_environment
from apps.release_lane.settings import LaneSettings

_OF_EVERY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened on


class Addresses:
    """The public and the metrics address of each instance."""

    def __init__(self, settings: LaneSettings) -> None:
        self._settings = settings
        self._hosts: tuple[str, str] | None = None

    def public(self, port: int) -> str:
        """Return address:port of an instance, as a URL has it. Raises UsageError."""
        return f"{self._read()[0]}:{port}"

    def metrics(self, metrics_port: int) -> str:
        """Return address:port of an instance's metrics. Raises UsageError."""
        return f"{self._read()[1]}:{metrics_port}"

    def scraped(self, metrics_port: int) -> str:
        """Return address:port at which Prometheus reaches an instance's metrics. Raises UsageError."""
        host = self._settings.scrape_host
        return f"{_in_url(host)}:{metrics_port}" if host else self.metrics(metrics_port)

    def _read(self) -> tuple[str, str]:
        """Read the file once: a host with hundreds of probes reads it no more often."""
        if self._hosts is None:
            found = read_environment(self._settings.environment_file)
            public = found.get("PLATFORM_HOST", "").strip()
            self._hosts = _reached(public), _reached(found.get("PLATFORM_METRICS_HOST", "").strip() or public)
        return self._hosts


def _reached(host: str) -> str:
    """Return the address at which this host reaches what listens on a host name or address."""
    return _in_url(_OF_EVERY_ADDRESS.get(host, host))


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
