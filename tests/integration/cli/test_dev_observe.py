"""`flowbiz-platform dev --observe`: a Prometheus that scrapes the gateway and evaluates our rules."""

import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.platform_cli.embedded.prometheus import find_prometheus
from tests.support.commands.dev_process import Dev, all_gone
from tests.support.servers.network.ports import free_port

WAIT_SECONDS = 120.0


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short directory of mode 0700, as `mktemp -d` makes it; pytest's own paths are long."""
    with tempfile.TemporaryDirectory(prefix="fb") as path:
        yield Path(path)


def data(url: str) -> Any:
    return httpx.get(url, trust_env=False, timeout=30).raise_for_status().json()["data"]


@pytest.mark.skipif(find_prometheus() is None, reason="no prometheus program is installed")
def test_observe_scrapes_the_gateway_and_loads_the_rules(directory: Path) -> None:
    """Prometheus ends with `dev`."""
    port = free_port()
    run = Dev(directory, [free_port(), free_port()], "--observe", "--prometheus-port", str(port))
    try:
        run.wait_ready()
        url = run.env["PLATFORM_PROMETHEUS_URL"]
        assert url == f"http://127.0.0.1:{port}"
        assert url in run.output
        deadline = time.monotonic() + WAIT_SECONDS
        while [target["health"] for target in data(f"{url}/api/v1/targets")["activeTargets"]] != ["up"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        groups = data(f"{url}/api/v1/rules")["groups"]
        assert "GatewayDown" in {rule["name"] for group in groups for rule in group["rules"]}
        pids = run.pids
        run.process.send_signal(signal.SIGTERM)
        assert run.wait() == 0, run.output
        assert all_gone(pids, 0), run.output
    finally:
        run.end()


def test_observe_without_prometheus_is_refused(directory: Path) -> None:
    run = Dev(directory, [free_port(), free_port()], "--observe", extra={"PATH": str(directory)})
    try:
        assert run.wait() == 2
        assert "--observe needs Prometheus, and no program `prometheus` is in PATH" in run.output
        assert not (run.data_dir / "postgres").exists()
    finally:
        run.end()


def test_observe_port_of_the_gateway_is_refused(directory: Path) -> None:
    ports = [free_port(), free_port()]
    run = Dev(directory, ports, "--observe", "--prometheus-port", str(ports[0]))
    try:
        assert run.wait() == 2
        assert f"--prometheus-port {ports[0]} is a port of the gateway" in run.output
    finally:
        run.end()
