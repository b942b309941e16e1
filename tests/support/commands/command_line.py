"""Run `flowbiz-platform` in a separate process, as operators do."""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

from tests.support.paths import ROOT

SECONDS = 300
_starting = threading.Lock()

PEPPER = "9f" * 32

Destination = Literal["file", "closed", "full", "gone"]
"""Where an output goes: a file that takes everything, none (`>&-`), a full disk (`/dev/full`), a pipe whose reader has
gone."""


@dataclass(frozen=True)
class Outcome:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The output as JSON."""
        return json.loads(self.out)

    @property
    def all(self) -> str:
        """Both outputs."""
        return self.out + self.err


def run_command(
    environment: Mapping[str, str],
    *arguments: str,
    seconds: float = SECONDS,
    stdout: Destination = "file",
    stderr: Destination = "file",
) -> "subprocess.CompletedProcess[str]":
    """Run `flowbiz-platform` with this environment and no other.

    The process is forked from one that has loaded the modules, unless the start is what counts: for `serve` and `dev`,
    and with variables that Python reads at its start. There both outputs are files.
    """
    if arguments[:1] in (("serve",), ("dev",)) or any(name.startswith("PYTHON") for name in environment):
        return subprocess.run(
            [sys.executable, "-m", "apps.platform_cli", *arguments],
            env=dict(environment), capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
    with _starting:
        server = _command_server()
    return server.run(environment, arguments, seconds, (stdout, stderr))


def cli(environment: Mapping[str, str], *arguments: str) -> Outcome:
    """Run `flowbiz-platform` with this environment and no other; a traceback is always a failure."""
    done = run_command({"PATH": os.environ.get("PATH", ""), "COLUMNS": "200", **environment}, *arguments)
    outcome = Outcome(done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in outcome.all, outcome.all
    assert PEPPER not in outcome.all
    assert "pa55word" not in outcome.all
    return outcome


def check_marks(outcome: Outcome) -> dict[str, str]:
    """Return the marks of the lines of `check` by the names of the checks."""
    return {line[6:30].strip(): line[:4].strip() for line in outcome.out.splitlines()}


@cache
def _command_server() -> "_CommandServer":
    return _CommandServer()


class _CommandServer:
    """The process of `tests.support.commands.command_server`. It ends with this process, whose end closes its stdin."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="fb")
        self._place = str(Path(self._directory.name) / "commands.sock")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.commands.command_server", self._place],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env={"PATH": os.environ.get("PATH", "")},
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        atexit.register(self._stop)

    def _stop(self) -> None:
        with self._process:  # closes its stdin, and waits for its end
            pass
        self._directory.cleanup()

    def run(
        self,
        environment: Mapping[str, str],
        arguments: tuple[str, ...],
        seconds: float,
        outputs: tuple[Destination, Destination],
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, as `subprocess.run` does."""
        request = {
            "arguments": arguments,
            "environment": dict(environment),
            "directory": os.getcwd(),
            "closed": [descriptor for descriptor, output in enumerate(outputs, start=1) if output == "closed"],
        }
        with ExitStack() as stack:
            files = [stack.enter_context(_open(output)) for output in outputs]
            connection = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
            connection.settimeout(seconds)
            connection.connect(self._place)
            socket.send_fds(connection, [json.dumps(request).encode()], [file.fileno() for file in files])
            connection.shutdown(socket.SHUT_WR)
            results = connection.makefile("rb", buffering=0)
            process = int(results.readline())
            try:
                code = int(results.readline())
            except TimeoutError:
                os.kill(process, signal.SIGKILL)
                raise
            return subprocess.CompletedProcess(["flowbiz-platform", *arguments], code, *map(_text, files))


def _open(output: Destination) -> IO[str]:
    if output == "full":
        return open("/dev/full", "w", encoding="utf-8")
    if output == "gone":
        reading, writing = os.pipe()
        os.close(reading)
        return os.fdopen(writing, "w", encoding="utf-8")
    return tempfile.TemporaryFile("w+", encoding="utf-8")


def _text(file: IO[str]) -> str:
    if not file.readable():
        return ""
    file.seek(0)
    return file.read()
