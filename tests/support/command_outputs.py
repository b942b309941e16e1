"""Run commands whose stdout or stderr cannot be written. The modules are loaded once, and each command is a fork.

`python -m tests.support.command_outputs` reads cases from stdin and prints what became of them, both as JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Literal

from tests.support.command_line import Outcome

Destination = Literal["file", "closed", "full", "gone"]
"""A file that takes everything; none (`>&-`); a full disk (`/dev/full`); a pipe whose reader has gone."""


@dataclass(frozen=True)
class Command:
    """A command line of `flowbiz-platform`, and where its output goes."""

    arguments: Sequence[str]
    stdout: Destination = "file"
    stderr: Destination = "file"


def run_commands(environment: Mapping[str, str], commands: Sequence[Command]) -> list[Outcome]:
    """Run the commands one after another, with this environment and no other."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.command_outputs"],
        input=json.dumps([asdict(command) for command in commands]), env=dict(environment),
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [Outcome(**each) for each in json.loads(done.stdout)]


def _run(command: Command) -> dict[str, str | int]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        if (pid := os.fork()) == 0:
            _be(command, out, err)  # exits
        _, status = os.waitpid(pid, 0)
        for file in (out, err):
            file.seek(0)
        texts = {"out": out.read().decode(), "err": err.read().decode()}
    return {"code": os.waitstatus_to_exitcode(status), **texts}


def _be(command: Command, out: IO[bytes], err: IO[bytes]) -> None:
    # Here, because a process that runs a command has imported them before its streams are changed.
    from apps.platform_cli.__main__ import start
    from apps.platform_cli.terminal.output import open_missing_streams

    places = ((1, "stdout", command.stdout, out), (2, "stderr", command.stderr, err))
    for descriptor, _, destination, file in places:
        match destination:
            case "file":
                os.dup2(file.fileno(), descriptor)
            case "full":
                os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)
            case "gone":
                reading, writing = os.pipe()
                os.dup2(writing, descriptor)
                os.close(reading)
    for descriptor, name, destination, _ in places:
        stream = open(descriptor, "w", closefd=False)  # noqa: SIM115 - what Python itself makes at its start
        setattr(sys, name, None if destination == "closed" else stream)
        if destination == "closed":
            os.close(descriptor)
    open_missing_streams()
    sys.argv = ["flowbiz-platform", *command.arguments]
    start()


if __name__ == "__main__":
    cases = [Command(**each) for each in json.load(sys.stdin)]
    import apps.platform_cli.main  # noqa: F401 - once for all forks

    sys.stdout.write(json.dumps([_run(case) for case in cases]))
