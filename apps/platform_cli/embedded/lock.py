"""The lock that allows one `dev` per data directory."""

import fcntl
import os
import re
from pathlib import Path

from apps.platform_cli.embedded.errors import EmbeddedError
from apps.platform_cli.embedded.private_file import NotPrivateError, open_private

_MAX_LOCK_BYTES = 32
_LOCK_TEXT = re.compile(rb"[0-9]{0,10}\s*")
"""The content of a lock file. A file with other content is not overwritten."""


class LockedError(EmbeddedError):
    """Another process holds the lock; `pid` is its process id, or None if it could not be read."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.pid = pid
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(
            f"{holder} already uses the data directory {path.parent}; stop it first"
            f"{f' (kill {pid})' if pid is not None else ''}, or choose another directory with --data-dir"
        )


class DirectoryLock:
    """An exclusive lock on a file. The kernel releases it whenever the holder dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock and write this process's id into the file.

        Raises:
            LockedError: another process holds it.
            NotPrivateError: the file is a link, belongs to another user or has other content; it is not changed.
        """
        # Close-on-exec, so that no child inherits the lock and keeps it after this process.
        descriptor = open_private(self._path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _LOCK_TEXT.fullmatch(os.read(descriptor, _MAX_LOCK_BYTES)):
                raise NotPrivateError(f"{self._path} contains something other than a process id; remove it")
        except BlockingIOError:
            holder = os.read(descriptor, _MAX_LOCK_BYTES).strip()
            os.close(descriptor)
            raise LockedError(self._path, int(holder) if holder.isdigit() else None) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock. The file stays, because removing it would let two processes lock two files of one name."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "DirectoryLock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
