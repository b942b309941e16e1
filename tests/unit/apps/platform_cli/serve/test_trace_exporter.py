"""The exporter of traces is replaced if a signal stops it, and left alone otherwise."""

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from apps.platform_cli.embedded.child import ChildProcess
from apps.platform_cli.serve import trace_exporter
from apps.platform_cli.serve.trace_exporter import RESTART_PAUSE_SECONDS, STOPPED_SECONDS, TraceExporter


def sleeping_process(name: str, _: Any, **options: Any) -> ChildProcess:
    return ChildProcess(name, [sys.executable, "-c", "import time; time.sleep(600)"], **options)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[TraceExporter]:
    monkeypatch.setattr(trace_exporter, "ChildProcess", sleeping_process)
    monkeypatch.setattr(trace_exporter, "STOP_SECONDS", 0.0)
    with TraceExporter(os.environ, 1) as made:
        made.supervise(0.0)
        yield made


def running(exporter: TraceExporter) -> list[int]:
    return [] if exporter.pid is None else [exporter.pid]


def stop(exporter: TraceExporter) -> int:
    """Stop the process and wait until the system shows it. Return its id."""
    pid = exporter.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    return pid


def test_stopped_exporter_is_replaced(exporter: TraceExporter) -> None:
    first = stop(exporter)
    with capture_logs() as lines:
        for now in (1.0, STOPPED_SECONDS, STOPPED_SECONDS + 1.0):
            assert running(exporter) == [first]
            exporter.supervise(now)
        assert running(exporter) == []
        exporter.supervise(STOPPED_SECONDS + 1.0 + RESTART_PAUSE_SECONDS)
    assert running(exporter) not in ([], [first])
    assert [line["event"] for line in lines] == ["trace_exporter_stopped", "trace_exporter_died"]


def test_exporter_that_continues_is_left_alone(exporter: TraceExporter) -> None:
    first = stop(exporter)
    exporter.supervise(1.0)
    os.kill(first, signal.SIGCONT)
    os.waitid(os.P_PID, first, os.WCONTINUED)
    exporter.supervise(2.0)
    stop(exporter)
    exporter.supervise(STOPPED_SECONDS + 1.5)
    assert exporter.pid == first


def test_running_exporter_is_left_alone(exporter: TraceExporter) -> None:
    first = exporter.pid
    for now in (1.0, 10 * STOPPED_SECONDS):
        exporter.supervise(now)
    assert exporter.pid == first
