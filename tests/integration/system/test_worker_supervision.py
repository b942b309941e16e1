"""A parent with real workers, one of which hangs: stopped by a signal or in an endless loop."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from apps.platform_cli.embedded import processes
from tests.conftest import Platform
from tests.support.gateway.http import workers
from tests.support.gateway.process import Gateway

WAIT_SECONDS = 60.0
T = TypeVar("T")
SPIN = """
import signal

def spin(*_):
    while True:
        pass

signal.signal(signal.SIGRTMIN, spin)
"""


def until(condition: Callable[[], T]) -> T:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def hang(gateway: Gateway, victim: int, how: signal.Signals) -> dict[str, Any]:
    """Send the signal; return the parent's log line, after both workers work again."""
    os.kill(victim, how)

    def line() -> dict[str, Any]:
        return next((line for line in gateway.log_lines() if line["event"] == "worker_hung"), {})

    found = until(line)
    until(lambda: len(workers(gateway)) == 2 and victim not in workers(gateway))
    assert not processes.is_running(victim)
    assert httpx.get(f"{gateway.base_url}/livez", timeout=WAIT_SECONDS).status_code == 200
    return found


@pytest.mark.parametrize(("how", "stack"), [(signal.SIGSTOP, False), (signal.SIGRTMIN, True)])
def test_hung_worker_is_replaced(platform: Platform, tmp_path: Path, how: signal.Signals, stack: bool) -> None:
    """SIGRTMIN runs an endless loop on the event loop's thread; the log says where."""
    (tmp_path / "sitecustomize.py").write_text(SPIN)
    environment = {
        **platform.environment,
        "PLATFORM_WORKER_TIMEOUT_SECONDS": "3",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }
    with Gateway(environment, tmp_path, workers=2) as gateway:
        until(lambda: len(workers(gateway)) == 2)
        # Both respond before one of them hangs: a worker that still starts has a longer bound.
        until(lambda: gateway.metrics().count("platform_build_info{") >= 1)
        time.sleep(3)
        found = hang(gateway, workers(gateway)[0], how)
        assert found["silent_seconds"] >= 3
        assert any("in spin" in line for line in found["stack"]) is stack
        assert 'platform_worker_restarts_total{reason="hung"} 1.0' in gateway.metrics()
