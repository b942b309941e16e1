"""Read a configuration file as text, or say why it cannot be read."""

import errno
import os
import stat
from pathlib import Path

MAX_BYTES = 8 * 1024 * 1024
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_WHY = {
    errno.ENOENT: "no such file; check the path",
    errno.ENOTDIR: "a part of its path is not a directory; check the path",
    errno.EISDIR: "is a directory; name the file in it",
    errno.EACCES: "permission denied; let the gateway's user read it and its directories",
    errno.ELOOP: "its links form a circle; check the path",
}


class UnreadableFile(Exception):
    """The file cannot be used. The message says why and what to do."""


def read_bytes(path: Path) -> bytes:
    """Return the file's content.

    Raises:
        UnreadableFile: it does not exist, is no regular file, is too large, or may not be read.
    """
    try:
        # Non-blocking, because opening a FIFO would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(mode):
                raise UnreadableFile("is not a regular file; name a file that every worker can read again")
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        why = _WHY.get(error.errno or 0, f"{error.strerror}; check the path")
        where = "" if path.is_absolute() else f" (relative to {Path.cwd()})"
        raise UnreadableFile(f"cannot be read{where}: {why}") from None
    except ValueError:  # a NUL character
        raise UnreadableFile("cannot be read: its path has a character that paths cannot have; check it") from None
    if len(content) > MAX_BYTES:
        raise UnreadableFile(f"has more than {MAX_BYTES:,} bytes; check the path")
    return content


def decode(content: bytes) -> str:
    """Return the content as text, without a byte order mark.

    Raises:
        UnreadableFile: it is not UTF-8 text.
    """
    if content.startswith(_UTF16):
        raise UnreadableFile("is not UTF-8 text but UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(
            f"line {line}: is not UTF-8 text (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        ) from None
