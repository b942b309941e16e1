"""Find the process that listens on a port, so that the message about a port in use names it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LISTENS = "0A"
MAX_COMMAND = 60


def port_holder(port: int, proc: Path = Path("/proc")) -> str | None:
    """Return the process that listens on this TCP port, such as "pid 4711 (python)"; None if it is not known.

    Only processes of the same user, or all of them for root, can be examined.
    """
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port, proc)}
    if not inodes:
        return None
    for process in proc.glob("[0-9]*"):
        with suppress(OSError):
            if any(_target(descriptor) in inodes for descriptor in (process / "fd").iterdir()):
                name = (process / "comm").read_text(errors="replace").strip()[:MAX_COMMAND]
                return f"pid {process.name} ({name})"
    return None


def _listening_inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for row in (proc / "net" / table).read_text().splitlines()[1:]:
                fields = row.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""
