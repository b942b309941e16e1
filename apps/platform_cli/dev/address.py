"""The addresses of `dev`, and whether their ports are free."""

import errno
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from platform_app.config import HttpUrl


class CannotStartError(Exception):
    """The options or the environment are invalid, and nothing was started. The message says what to change."""


@dataclass(frozen=True)
class Address:
    """The addresses on which the gateway listens."""

    host: str
    port: int
    metrics_host: str
    metrics_port: int
    prometheus_port: int | None = None
    """The port of Prometheus on 127.0.0.1; None without `--observe`."""

    @property
    def base_url(self) -> str:
        """The URL at which this machine reaches the gateway."""
        return _url(self.host, self.port)

    @property
    def metrics_url(self) -> str:
        """The URL at which this machine reaches the metrics."""
        return f"{_url(self.metrics_host, self.metrics_port)}/metrics"

    @property
    def metrics_target(self) -> str:
        """The `host:port` at which this machine scrapes the metrics."""
        return _url(self.metrics_host, self.metrics_port).removeprefix("http://")


def choose_address(
    environ: Mapping[str, str], port: int, metrics_port: int, prometheus_port: int | None = None
) -> Address:
    """Return the addresses of flags and environment. Raises CannotStartError if they are invalid."""
    host = environ.get("PLATFORM_HOST") or "127.0.0.1"
    metrics_host = environ.get("PLATFORM_METRICS_HOST") or host
    for number, flag in ((port, "--port"), (metrics_port, "--metrics-port")):
        if not 1 <= number <= 65_535:
            raise CannotStartError(f"{flag} {number} is not a port; choose one from 1 to 65535")
    if port == metrics_port:
        raise CannotStartError(f"--port and --metrics-port are both {port}; metrics need a separate port")
    if prometheus_port in (port, metrics_port):
        raise CannotStartError(f"--prometheus-port {prometheus_port} is a port of the gateway; choose another")
    return Address(host, port, metrics_host, metrics_port, prometheus_port)


def check_ports(address: Address) -> None:
    """Raise CannotStartError, with the port and its flag, if one of the ports cannot be used."""
    _check_port(address.host, address.port, "--port")
    _check_port(address.metrics_host, address.metrics_port, "--metrics-port")
    if address.prometheus_port is not None:
        _check_port("127.0.0.1", address.prometheus_port, "--prometheus-port")


def _check_port(host: str, port: int, flag: str) -> None:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen(1)
    except socket.gaierror:
        raise CannotStartError(f"PLATFORM_HOST: '{host}' is not an address of this machine") from None
    except PermissionError:
        raise CannotStartError(f"port {port} needs root; choose one above 1023 with {flag}") from None
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise CannotStartError(f"port {port} on {host} cannot be used: {error.strerror}") from None
        raise CannotStartError(
            f"port {port} on {host} is in use; stop the process that uses it, or choose another with {flag}"
        ) from None


def last_port(ready_file: Path) -> int:
    """Return the simulator's port of the last start, so that its URL stays; 0, a port of the system's choice, if there
    was none or it is in use."""
    try:
        port = urlsplit(json.loads(ready_file.read_bytes())["base_url"]).port
        _check_port("127.0.0.1", port or 0, "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CannotStartError):
        return 0
    return port or 0


def checked_url(url: str, source: str) -> str:
    """Return the URL without its last slash. Raises CannotStartError, which names `source`, for an invalid URL."""
    try:
        return TypeAdapter[str](HttpUrl).validate_python(url)
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise CannotStartError(f"{source}: {reason}") from None


def _url(host: str, port: int) -> str:
    """Return the URL at which this machine reaches a listener on that host and port."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - translated away
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
