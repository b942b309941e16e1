"""What the lane asks a running instance over HTTP."""

import http.client
import json
import urllib.error
import urllib.request
from typing import Protocol

from apps.release_lane.host.addresses import Addresses

_TIMEOUT_SECONDS = 5.0
_IN_FLIGHT = "platform_http_requests_in_flight"


class Probes(Protocol):
    """Reads the state of an instance."""

    def problem(self, port: int) -> str | None:
        """Return why the instance of this port is not ready, or None if it is."""

    def in_flight(self, metrics_port: int) -> int | None:
        """Return the number of running requests, or None if it is unknown."""


class HttpProbes:
    """Asks instances of this host."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        # The environment's proxy is for the internet.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def problem(self, port: int) -> str | None:
        """Request /readyz."""
        try:
            with self._opener.open(f"http://{self._addresses.public(port)}/readyz", timeout=_TIMEOUT_SECONDS):
                return None
        except urllib.error.HTTPError as error:
            return f"GET /readyz: {error.code} {_broken(error.read())}"
        except (OSError, ValueError, http.client.HTTPException) as error:
            return f"GET /readyz: {error}"

    def in_flight(self, metrics_port: int) -> int | None:
        """Read the gauge of running requests."""
        try:
            url = f"http://{self._addresses.metrics(metrics_port)}/metrics"
            with self._opener.open(url, timeout=_TIMEOUT_SECONDS) as response:
                lines = response.read().decode().splitlines()
            values = [float(line.split()[-1]) for line in lines if line.startswith(_IN_FLIGHT)]
            return int(sum(values)) if values else None
        except (OSError, ValueError, http.client.HTTPException):
            return None


def _broken(body: bytes) -> str:
    try:
        checks = json.loads(body)["checks"]
        return ", ".join(f"{each['name']}: {each['detail']}" for each in checks if each["required"] and not each["ok"])
    except (ValueError, KeyError, TypeError):
        return ""
