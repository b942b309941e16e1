"""`flowbiz-platform dev` as a separate process: its output, its environment file and its processes."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from apps.platform_cli.dev import files as dev_files
from apps.platform_cli.embedded import processes

COMMAND = (sys.executable, "-m", "apps.platform_cli", "dev")
_OURS = re.compile(r"PLATFORM_|OPENAI_|PG[A-Z]|.*_proxy", re.IGNORECASE)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
    return {**mine, "PYTHONUNBUFFERED": "1", **(extra or {})}


class Dev:
    """One run of the command."""

    def __init__(
        self,
        directory: Path,
        ports: list[int],
        *arguments: str,
        extra: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.data_dir = directory / ".data"
        self._output = directory / "output"
        flags = ["--port", str(ports[0]), "--metrics-port", str(ports[1]), "--data-dir", str(self.data_dir)]
        self.started = time.monotonic()
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*COMMAND, *flags, *arguments],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env=clean_environment(extra),
                cwd=cwd,
            )

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def wait_ready(self) -> float:
        """Seconds from the start of the process to its line `ready`."""
        while not re.search(r"^ready in ", self.output, re.MULTILINE):
            assert self.process.poll() is None, self.output
            assert time.monotonic() - self.started < 60, self.output
            time.sleep(0.02)
        return time.monotonic() - self.started

    def wait(self) -> int:
        return self.process.wait(30)

    @property
    def pids(self) -> list[int]:
        """The processes that it says it started, with what these started."""
        said = [int(pid) for pid in re.findall(r"pid (\d+)", self.output)]
        assert len(said) >= 3, self.output
        return sorted({each for pid in said for each in [pid, *processes.descendants(pid)]})

    @property
    def env(self) -> dict[str, str]:
        return dev_files.read_env(self.data_dir / "dev.env")

    def ask(self) -> httpx.Response:
        """What the printed curl does."""
        line = next(line for line in self.output.splitlines() if line.strip().startswith("curl "))
        words = shlex.split(line)
        url = next(word for word in words if word.startswith("http"))
        headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
        body = words[words.index("-d") + 1]
        return httpx.post(url, headers=headers, content=body, timeout=300, trust_env=False)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)


def all_gone(pids: list[int], seconds: float = 60.0) -> bool:
    return all(processes.wait_gone(pid, seconds) for pid in pids)
