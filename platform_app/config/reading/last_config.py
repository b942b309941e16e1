"""The configuration that the workers of one parent used last. A worker that starts while the file is invalid, or while
it cannot be read, uses it: the others keep theirs too."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from platform_app.config.environment.variables import environment

_NAME = "last-config"


class LastConfig:
    """A file in the parent's directory, which goes with the parent. Its content holds no secret, only their names."""

    def __init__(self, directory: Path | None) -> None:
        """`directory`: the parent's; None for a process without a parent, which remembers nothing."""
        self._file = None if directory is None else directory / _NAME

    @classmethod
    def of_this_gateway(cls) -> "LastConfig":
        """Return the one that this worker shares with the others of its parent."""
        directory = environment().get("PROMETHEUS_MULTIPROC_DIR")
        return cls(Path(directory) if directory else None)

    def store(self, content: bytes) -> None:
        """Remember the content of a valid file. A disk that refuses it changes nothing else."""
        if self._file is None or not content or not _is_private(self._file.parent):
            return
        new = self._file.with_name(f"{_NAME}.{os.getpid()}")
        with suppress(OSError):
            new.write_bytes(content)
            new.replace(self._file)

    def read(self) -> bytes | None:
        """Return what was stored last; None if there is nothing."""
        with suppress(OSError):
            return self._file.read_bytes() if self._file is not None and _is_private(self._file.parent) else None
        return None


def _is_private(directory: Path) -> bool:
    """Return whether this is a directory, not a link, that only this user may write to. It lies in the temporary
    directory of all users, who may make another of its name where a cleaner removed it."""
    with suppress(OSError):
        status = directory.lstat()
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return False
