"""Child processes, their leftovers, the lock of a data directory, and reading processes without /proc."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apps.platform_cli.embedded import processes
from apps.platform_cli.embedded.child import ChildFailedError, ChildProcess, reap_leftover
from apps.platform_cli.embedded.lock import DirectoryLock, LockedError

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


def gone(pid: int, seconds: float = 60.0) -> bool:
    return processes.wait_gone(pid, seconds)


def test_child_that_ignores_sigterm_is_killed_with_its_tree(tmp_path: Path) -> None:
    script = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'],"
        " start_new_session=True).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    log = tmp_path / "log"
    child = ChildProcess("stubborn", [sys.executable, "-S", "-c", script], log_file=log)
    child.wait_ready(lambda: log.read_text().endswith("\n"), 60)
    grandchild = int(log.read_text())
    assert child.stop(grace_seconds=0.2) == -signal.SIGKILL
    assert gone(grandchild)


def test_child_that_ends_early_is_reported_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("an older run\n")
    child = ChildProcess(
        "broken", [sys.executable, "-S", "-c", "print('no such table'); raise SystemExit(7)"], log_file=log
    )
    with pytest.raises(ChildFailedError, match=r"broken ended: exit code 7") as caught:
        child.wait_ready(lambda: False, 60)
    assert "no such table" in str(caught.value)
    assert "an older run" not in str(caught.value)


def test_child_that_is_not_ready_in_time_is_reported() -> None:
    child = ChildProcess("slow", SLEEP)
    with pytest.raises(ChildFailedError, match=r"slow was not ready within 0.1 s"):
        child.wait_ready(lambda: False, 0.1)
    child.kill()


def test_child_large_log_is_truncated_at_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(11 * 1024 * 1024)
    ChildProcess("one", [sys.executable, "-S", "-c", "print('hello')"], log_file=log).stop(grace_seconds=5)
    assert log.stat().st_size < 100


def test_leftover_child_is_stopped_but_no_other_process(tmp_path: Path) -> None:
    pid_file = tmp_path / "x.pid"
    child = ChildProcess("leftover", SLEEP, pid_file=pid_file)
    recorded = pid_file.read_text()
    assert reap_leftover(pid_file) == child.pid
    assert not pid_file.exists()
    assert child.poll() == -signal.SIGTERM

    other = ChildProcess("innocent", SLEEP)
    pid_file.write_text(f"{other.pid}\n{recorded.splitlines()[1]}\n")
    assert reap_leftover(pid_file) is None
    assert other.poll() is None
    assert not pid_file.exists()
    other.kill()


def test_directory_lock_in_use_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "dev.lock"
    script = (
        "import sys, time; from pathlib import Path; from apps.platform_cli.embedded.lock import DirectoryLock\n"
        "lock = DirectoryLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(LockedError, match=f"process {holder.pid} already uses") as caught:
            DirectoryLock(path).acquire()
        assert caught.value.pid == holder.pid
        holder.kill()
    with DirectoryLock(path), pytest.raises(LockedError, match=f"process {os.getpid()}"):
        DirectoryLock(path).acquire()
    with DirectoryLock(path):
        pass


def test_processes_without_proc_are_read_from_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    child = ChildProcess("seen", SLEEP)
    mark = processes.birth_mark(child.pid)
    monkeypatch.setattr(processes, "_HAS_PROC", False)
    assert processes.is_running(child.pid)
    assert processes.birth_mark(child.pid) not in (None, mark)
    assert processes.command_line(child.pid)[:2] == SLEEP[:2]
    assert child.pid in processes.descendants(os.getpid())
    os.kill(child.pid, signal.SIGKILL)
    assert gone(child.pid)  # before it is reaped, too
    child.kill()
    assert processes.birth_mark(child.pid) is None
    assert processes.command_line(child.pid) == []
