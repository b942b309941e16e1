"""What the lane writes down: the lock, the operation that runs, and the log of releases."""

import fcntl
import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TextIO

from apps.release_lane.errors import LockedError, UsageError

Action = Literal["release", "rollback", "contract"]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that has begun and not ended. It stays on disk if the lane is killed."""

    action: Action
    to: str
    previous: str | None
    """The release that served before."""
    who: str
    started: str
    step: str = ""
    """The step that began last."""


class Journal:
    """The files below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log_file = directory / "releases.log"
        self._operation_file = directory / "operation.json"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of this host. The kernel releases it when the process ends, however it ends.

        Raises:
            LockedError: another process has it.
            UsageError: its file cannot be written.
        """
        try:
            file = self._locked_file()
        except OSError as error:
            raise UsageError(
                f"{error.filename or self.directory}: {error.strerror}; the lane writes below the root of lane.toml"
            ) from None
        with file:
            yield

    def _locked_file(self) -> TextIO:
        self.directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            file = stack.enter_context((self.directory / "lock").open("a+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise LockedError(f"Another operation runs: {file.read().strip() or 'unknown'}") from None
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} of {who()}, since {now()}\n")
            file.flush()
            stack.pop_all()
        return file

    def operation(self) -> Operation | None:
        """Return the operation that was not ended, or None.

        Raises:
            UsageError: its file is damaged.
        """
        try:
            return Operation(**json.loads(self._operation_file.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"{self._operation_file} is damaged ({error}); read releases.log, then remove it"
            ) from None

    def begin(self, operation: Operation) -> None:
        """Record that an operation runs, and its step."""
        write_whole(self._operation_file, json.dumps(asdict(operation)))

    def end(self) -> None:
        """Record that no operation runs."""
        self._operation_file.unlink(missing_ok=True)

    def log(self, operation: Operation, result: str, seconds: float | None = None) -> None:
        """Append one line to the log of releases."""
        line = {
            "at": now(),
            "who": operation.who,
            "action": operation.action,
            "from": operation.previous,
            "to": operation.to,
            "result": result,
            **({} if seconds is None else {"seconds": round(seconds, 1)}),
        }
        descriptor = os.open(self.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, (json.dumps(line) + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a file that other processes see complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def link_whole(path: Path, target: str) -> None:
    """Point a symbolic link at a target, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(path)


def who() -> str:
    """Return the person and the host: also behind sudo."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user id without an account
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def now() -> str:
    """Return the time as ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
