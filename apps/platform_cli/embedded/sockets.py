"""Unix socket paths, which the kernel keeps short."""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from apps.platform_cli.embedded.errors import EmbeddedError

# 107 bytes on Linux, 103 on macOS.
_MAX_BYTES = 103


def socket_directory(directory: Path, socket_name: str, owner: tuple[int, int] | None = None) -> Path:
    """Return the directory for a server's socket: its own, or a short private one if that makes the path too long.

    The short one is in the system's directory for temporary files, named after a hash of `directory`, so the next start
    finds it again. It is created with mode 0700 for the given owner (uid, gid).

    Raises:
        EmbeddedError: another user has created the short directory.
    """
    # A comma separates directories in PostgreSQL's setting and hosts in libpq.
    if _fits(directory / socket_name) and "," not in str(directory):
        return directory
    uid, gid = owner or (os.geteuid(), os.getegid())
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    base = Path(tempfile.gettempdir())
    if not _fits(base / f"flowbiz-{uid}-{digest}" / socket_name):
        base = Path("/tmp")  # noqa: S108 - the directory's owner and mode are checked below
    short = base / f"flowbiz-{uid}-{digest}"
    try:
        short.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        os.chown(short, uid, gid)
    status = short.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o077:
        raise EmbeddedError(f"{short} is not a private directory of user id {uid}; remove it and start again")
    return short


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= _MAX_BYTES
