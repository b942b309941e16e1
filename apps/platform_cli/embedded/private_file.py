"""Files that other users of the machine cannot replace: in a shared temporary directory, or in a data directory that
another user prepared."""

import os
import stat
from pathlib import Path

from apps.platform_cli.embedded.errors import EmbeddedError


class NotPrivateError(EmbeddedError):
    """The file or directory at this path belongs to another user, is a link, or has the wrong type."""


def is_private_directory(path: Path) -> bool:
    """Return whether this is a directory, not a link, of this user that no other user may write to or list."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def check_data_directory(path: Path) -> None:
    """Check the directory of keys and data, where another user with write permission could choose the keys.

    Root may use another user's directory, as with `sudo`.

    Raises:
        NotPrivateError: it belongs to another user, or every user may write to it.
    """
    status = path.stat()
    if status.st_uid != os.geteuid() and os.geteuid() != 0:
        raise NotPrivateError(f"{path} belongs to user id {status.st_uid}; choose another directory with --data-dir")
    if status.st_mode & stat.S_IWOTH:
        raise NotPrivateError(f"every user may write to {path}; run: chmod o-w {path}")


def open_private(path: Path, flags: int) -> int:
    """Open a regular file of this user, or create it with mode 0600, and return the descriptor. This follows no link,
    does not wait for a pipe, and does not change the file.

    Raises:
        NotPrivateError: another user's file, a link, or not a regular file.
        OSError: it cannot be opened.
    """
    assert not flags & os.O_TRUNC  # noqa: S101 - the file's owner is checked only after opening it
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise NotPrivateError(f"{path} is a symbolic link; remove it") from error
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or not _trusted(status.st_uid, path):
        os.close(descriptor)
        raise NotPrivateError(f"{path} is not a regular file of user id {os.geteuid()} alone; remove it")
    return descriptor


def replace_private(path: Path, text: str) -> None:
    """Replace a file atomically with one of mode 0600. The old file is not written to, nor the target of a link."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)


def read_private(path: Path) -> str | None:
    """Return the text of a file of this user, or None if it does not exist.

    Raises:
        NotPrivateError: see open_private.
    """
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
        return file.read()


def _trusted(owner: int, path: Path) -> bool:
    """Return whether the file belongs to this user or, for root, to the directory's owner, who could replace it
    anyway."""
    return owner == os.geteuid() or (os.geteuid() == 0 and owner == path.parent.stat().st_uid)
