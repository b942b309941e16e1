"""Runs `make run` as a newcomer would: waits for its ready line, pastes its curl line, stops it, looks for remains."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

READY_SECONDS = 60.0
FIELDS = {
    "status", "id", "request_id", "trace_id", "provider", "model", "output", "message", "finish_reason", "usage",
    "conversation_id", "duration_ms",
}  # fmt: skip


def main() -> int:
    """Cold start, warm start, and a start after a SIGKILL; each answers the curl line that it printed."""
    data = Path(tempfile.mkdtemp(prefix="make-run-")) / "data"
    try:
        cold = once(data, "cold", signal.SIGINT)
        warm = once(data, "warm", signal.SIGTERM)
        if warm > cold + 2:  # it reuses what the cold one made; how fast both are is the machine's
            fail(f"a warm start took {warm:.1f} s, the cold one {cold:.1f} s")
        once(data, "to be killed", signal.SIGKILL)
        once(data, "after SIGKILL", signal.SIGTERM)
    finally:
        shutil.rmtree(data.parent, ignore_errors=True)
    return 0


def once(data: Path, name: str, stop: signal.Signals) -> float:
    """Start, ask, stop by this signal to the process that `make run` became. Returns the seconds to the ready line."""
    started = time.monotonic()
    process = subprocess.Popen(  # noqa: S603 - a fixed command
        ["make", "--silent", "run", f"ARGS=--data-dir {data} --port 18100 --metrics-port 19100"],  # noqa: S607
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "OPENAI_API_KEY": ""},
    )  # fmt: skip
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)  # type: ignore[union-attr]
    reader.start()
    while not any(re.match(r"ready\b", line) for line in list(lines)):
        if process.poll() is not None or time.monotonic() - started > READY_SECONDS:
            fail(f"{name}: make run was not ready:\n{''.join(lines)}")
        time.sleep(0.02)
    seconds = time.monotonic() - started
    curl = next(line.strip() for line in lines if line.strip().startswith("curl "))
    answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603, S607
    if set(json.loads(answer.stdout)) != FIELDS:
        fail(f"{name}: the printed curl line answered {answer.stdout}")
    dev = int((data / "dev.lock").read_text().split()[0])
    pids = tree(dev)
    os.kill(dev, stop)
    process.wait(timeout=40)
    deadline = time.monotonic() + 5
    while left := [pid for pid in pids if alive(pid)]:
        if time.monotonic() > deadline:
            fail(f"{name}: still running after {stop.name}: {left}")
        time.sleep(0.05)
    sys.stdout.write(f"make run, {name}: ready in {seconds:.1f} s, curl answered, {stop.name} left nothing behind\n")
    return seconds


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, waiting = [root], [root]
    while waiting:
        parent = waiting.pop()
        children = [pid for pid, of in parents.items() if of == parent]
        found += children
        waiting += children
    return found


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def fail(why: str) -> None:
    """Say why and end."""
    sys.exit(f"FAILED: {why}")


if __name__ == "__main__":
    sys.exit(main())
