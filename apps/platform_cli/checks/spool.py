"""Check the spool's directory without writing: `check` changes nothing."""

import os
from pathlib import Path

from platform_app.readiness import Check

_FREE_SPACE = "free space, or name a directory on another disk"
_REMOVE_FILES = "remove files, or name a directory on another disk"


def spool_check(directory: Path, max_bytes: int) -> Check:
    """Return whether the directory can be written or made, and whether its disk has room for a full spool."""
    existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        return _failed(directory, f"{existing} is not a directory; name another path")
    try:
        disk = os.statvfs(existing)
    except OSError as error:
        return _failed(directory, f"{existing} cannot be read: {error.strerror}; check path and owner")
    if disk.f_flag & os.ST_RDONLY:
        return _failed(directory, f"{existing} is on a file system that is mounted read-only; mount a writable one")
    if not os.access(existing, os.W_OK | os.X_OK):
        return _failed(directory, f"{existing} cannot be written by uid {os.geteuid()}; change its owner or mode")
    free = disk.f_bavail * disk.f_frsize
    if free == 0:
        return _failed(directory, f"its disk is full; {_FREE_SPACE}")
    if disk.f_files and disk.f_favail == 0:  # file systems without a fixed number of files say 0 of 0
        return _failed(directory, f"its disk has no room for another file (inodes); {_REMOVE_FILES}")
    if free < max_bytes:
        detail = f"{directory}: {_mib(free)} free, less than PLATFORM_SPOOL_MAX_BYTES ({_mib(max_bytes)}); lower it"
        return Check("spool", False, False, f"{detail}, or free space")
    made = "" if existing == directory.absolute() else ", and is made at the first start"
    return Check("spool", True, True, f"{directory} can be written{made}")


def full_disk(directory: Path) -> str | None:
    """Return what to do if the disk of an existing directory is full, else None."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return None  # spool_problems says what is wrong
    return _FREE_SPACE if disk.f_bavail == 0 else None


def _failed(directory: Path, why: str) -> Check:
    return Check("spool", False, True, f"PLATFORM_SPOOL_DIR ({directory}): {why}")


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
