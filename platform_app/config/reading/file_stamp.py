"""Notice that a file was replaced or changed."""

from pathlib import Path

FileStamp = tuple[int, int, int]
MISSING: FileStamp = (0, 0, 0)


def file_stamp(path: str | Path | None) -> FileStamp:
    """Return what changes when the file does, also where a mounted directory is exchanged behind a link, or where the
    new file keeps the time of the old one. MISSING without a file."""
    try:
        found = Path(path).stat() if path is not None else None
    except OSError:
        found = None
    return (found.st_ino, found.st_mtime_ns, found.st_size) if found is not None else MISSING
