"""Information about processes: whether one lives, its start time, its command line, its descendants.

It is read from /proc if that exists, else from `ps`. A process that ended and is not reaped counts as gone, because in
a container whose first process reaps nothing, orphans stay in the table forever.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_HAS_PROC = (_PROC / "self" / "stat").exists()


def is_running(pid: int) -> bool:
    """Return whether the process exists and has not ended."""
    return _state(pid)[:1] not in ("Z", "X", "")


def freeze(pid: int, seconds: float = 2.0) -> None:
    """Suspend a process and all its descendants, and wait until they are suspended."""
    # From the root down: a suspended process starts no more children while its own are listed.
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        send(each, signal.SIGSTOP)
        deadline = time.monotonic() + seconds
        while _state(each)[:1] not in ("T", "Z", "") and time.monotonic() < deadline:
            time.sleep(0.001)
        waiting += [child for child, parent in _parents() if parent == each]


def thaw(pid: int) -> None:
    """Undo `freeze`."""
    for each in [*descendants(pid), pid]:
        send(each, signal.SIGCONT)


def birth_mark(pid: int) -> str | None:
    """Return boot and start time, which no other process with this id shares; None if the process is gone."""
    if not _HAS_PROC:
        return _ps("lstart=", pid) or None
    fields = _stat(pid)
    if fields is None:
        return None
    boot = ""
    with contextlib.suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{fields[19]}"


def command_line(pid: int) -> list[str]:
    """Return the process's arguments; empty if it is gone. `ps` splits arguments with spaces."""
    if _HAS_PROC:
        try:
            raw = (_PROC / str(pid) / "cmdline").read_bytes()
        except OSError:
            return []
        return os.fsdecode(raw.rstrip(b"\0")).split("\0") if raw else []
    return _ps("command=", pid).split()


def descendants(pid: int) -> list[int]:
    """Return the ids of all children, their children and so on. The tree is consistent only if it is suspended."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child)
    return found


def working_in(directory: Path) -> list[int]:
    """Return the processes with this working directory; empty without /proc, and for other users' processes."""
    if not _HAS_PROC:
        return []
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            if (_PROC / str(pid) / "cwd").readlink() == directory:
                found.append(pid)
    return found


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may already be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_gone(pid: int, seconds: float) -> bool:
    """Wait for a process that is not a child of this one to end. Return whether it did."""
    deadline = time.monotonic() + seconds
    while is_running(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def end(pid: int, steps: tuple[tuple[signal.Signals, float], ...]) -> bool:
    """End a process that is not a child of this one by a series of signals, each with its timeout in seconds.

    The last one is SIGKILL, also to its descendants. Return whether the process is gone.
    """
    for number, seconds in steps:
        send(pid, number)
        send(pid, signal.SIGCONT)  # a stopped process handles only SIGKILL until it continues
        if wait_gone(pid, seconds):
            return True
    for each in [pid, *descendants(pid)]:
        send(each, signal.SIGKILL)
    return wait_gone(pid, 5)


def _state(pid: int) -> str:
    """Return the state, which begins with its letter; empty if the process is gone."""
    if not _HAS_PROC:
        return _ps("stat=", pid)
    fields = _stat(pid)
    return fields[0] if fields is not None else ""


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the state on. The name before them may contain spaces and
    parentheses."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir(_PROC) if name.isdigit())


def _parents() -> Iterator[tuple[int, int]]:
    if _HAS_PROC:
        for pid in _pids():
            fields = _stat(pid)
            if fields is not None:
                yield pid, int(fields[1])
        return
    listing = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=False)  # noqa: S607 - ps is in /bin on every system without /proc
    for line in listing.stdout.splitlines():
        pid_text, parent_text = line.split()
        yield int(pid_text), int(parent_text)


def _ps(column: str, pid: int) -> str:
    listing = subprocess.run(  # noqa: S603 - the arguments are a constant and a number
        ["ps", "-ww", "-o", column, "-p", str(pid)],  # noqa: S607 - as above
        capture_output=True,
        text=True,
        check=False,
    )
    return listing.stdout.strip()
