"""Starts that fail, and stops: exit codes, and that nothing is left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apps.platform_cli.embedded import processes
from apps.platform_cli.serve.worker import Worker
from tests.conftest import Platform
from tests.support.gateway.http import workers
from tests.support.gateway.process import Gateway
from tests.support.servers.network.ports import free_port

WAIT_SECONDS = 300.0
COMMAND = [sys.executable, "-m", "apps.platform_cli", "serve"]
NO_START = """
import sys
if "apps.platform_api" in sys.orig_argv:
    import os
    os._exit(7)
"""
SLOW_START = """
import sys, time
if "apps.platform_api" in sys.orig_argv:
    time.sleep(600)
"""


def environment(platform: Platform, directory: Path, site: str = "", **more: str) -> dict[str, str]:
    (directory / "sitecustomize.py").write_text(site)
    return {
        **platform.environment,
        "PLATFORM_SPOOL_DIR": str(directory / "spool"),
        "PYTHONPATH": os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")]),
        "TMPDIR": str(directory),
        **more,
    }


@contextmanager
def serving(settings: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    ports = ["--port", str(free_port()), "--metrics-port", str(free_port())]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*COMMAND, *ports], env=settings, **pipes) as process:  # type: ignore[call-overload]  # as above
        try:
            yield process
        finally:
            process.kill()


def wait(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return the exit code and both outputs."""
    output, errors = process.communicate(timeout=WAIT_SECONDS)
    return process.returncode, output, errors


def is_parent(process: subprocess.Popen[str]) -> bool:
    return "apps.platform_cli.serve.parent" in processes.command_line(process.pid)


def until_true(condition: object) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():  # type: ignore[operator]  # a function without parameters
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_worker_that_never_starts_ends_the_parent(platform: Platform, tmp_path: Path) -> None:
    """The reason is on stderr, and no metric files are left."""
    with serving(environment(platform, tmp_path, NO_START)) as process:
        code, output, errors = wait(process)
    assert code == 3
    assert "No worker became ready in 5 attempts. Reason: exit code 7." in errors
    assert '"workers_cannot_start"' in output
    assert '"serving"' not in output
    assert list(tmp_path.glob("flowbiz-platform-metrics-*")) == []


def test_worker_reports_why_it_cannot_start(platform: Platform, tmp_path: Path) -> None:
    """The spool was writable when the parent checked it."""
    (tmp_path / "file").touch()
    settings = environment(platform, tmp_path, PLATFORM_SPOOL_DIR=str(tmp_path / "file" / "spool"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        worker = Worker(listening, settings, 0.0)
        until_true(lambda: worker.process.poll() is not None)
        worker.listen(1.0)
        assert worker.end() == 2
    assert worker.failure().startswith(f"PLATFORM_SPOOL_DIR ({tmp_path}/file/spool): cannot be written")
    assert not worker.ready


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_stop_signal_during_start_ends_with_zero(platform: Platform, tmp_path: Path, number: signal.Signals) -> None:
    """The database accepts the connection and does not respond."""
    with socket.create_server(("127.0.0.1", 0)) as database:
        database.settimeout(WAIT_SECONDS)
        url = f"postgresql://user:password@127.0.0.1:{database.getsockname()[1]}/platform"
        with serving(environment(platform, tmp_path, PLATFORM_DATABASE_URL=url)) as process:
            connection, _ = database.accept()
            with connection:
                process.send_signal(signal.SIGHUP)
                process.send_signal(number)
                code, _, errors = wait(process)
    assert (code, errors) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_stop_signal_while_workers_start_ends_with_zero(
    platform: Platform, tmp_path: Path, number: signal.Signals
) -> None:
    with serving(environment(platform, tmp_path, SLOW_START)) as process:
        until_true(lambda: is_parent(process) and processes.descendants(process.pid))
        children = processes.descendants(process.pid)
        process.send_signal(number)
        code, output, errors = wait(process)
    assert (code, errors) == (0, ""), output
    assert '"stopped"' in output
    assert not any(processes.is_running(pid) for pid in children)


@pytest.mark.parametrize("hang", [None, signal.SIGSTOP])
def test_killed_parent_leaves_no_worker(platform: Platform, tmp_path: Path, hang: signal.Signals | None) -> None:
    """Also not a worker that cannot handle any signal."""
    with Gateway(environment(platform, tmp_path), tmp_path, workers=2) as gateway:
        until_true(lambda: len(workers(gateway)) == 2)
        found = workers(gateway)
        if hang is not None:
            os.kill(found[0], hang)
        gateway.kill()
        until_true(lambda: not any(processes.is_running(pid) for pid in found))
