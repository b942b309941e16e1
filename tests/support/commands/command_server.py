"""A process that has loaded `flowbiz-platform` and forks for each command: loading takes longer than most commands run.

`python -m tests.support.commands.command_server SOCKET` listens on the Unix socket until its stdin ends. A client sends
the descriptors of stdout and stderr with a JSON object (`arguments`, `environment`, `directory`, and which of them are
`closed`), and closes its sending side. It receives two lines: the process id of the command and its exit code
(negative: the signal that ended it).
"""

import json
import os
import select
import signal
import socket
import sys
from typing import Any

import apps.platform_cli.__main__ as command_line
import apps.platform_cli.checks.command
import apps.platform_cli.smoke.command
import apps.platform_cli.usage.reconcile  # noqa: F401 - loaded before any fork, as the lines above
from apps.platform_cli.terminal.output import open_missing_streams

READ_BYTES = 1 << 16


def accept_command(place: str) -> None:
    """Serve until stdin ends. Return only in the process of a command, with the command's streams and environment."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(place)
    listener.listen(64)
    os.write(1, b"ready\n")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the supervisors of commands are not awaited
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return supervise(connection)
        connection.close()


def supervise(connection: socket.socket) -> None:
    """Fork the command and send its exit code. Return only in the command's process."""
    message, descriptors, _, _ = socket.recv_fds(connection, READ_BYTES, 2)
    while more := connection.recv(READ_BYTES):
        message += more
    command = os.fork()
    if command == 0:
        connection.close()
        return become(json.loads(message), descriptors)
    connection.send(b"%d\n" % command)
    _, status = os.waitpid(command, 0)
    connection.send(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Give this process the streams, the directory, the arguments and the environment of the command."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, descriptor in enumerate((nothing, *descriptors)):
        os.dup2(descriptor, target)
        os.close(descriptor)
    for descriptor in request["closed"]:
        os.close(descriptor)
        setattr(sys, ("stdin", "stdout", "stderr")[descriptor], None)  # as Python itself does at its start
    open_missing_streams()
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["arguments"]
    sys.argv[0] = command_line.__file__


if __name__ == "__main__":
    accept_command(sys.argv[1])
    command_line.start()
