"""The files of a spool directory, and which process each belongs to.

A segment is `<created, ms since 1970>-<owner>-<sequence>.v4.open` while its owner appends to it, and the same with
`.seg` afterwards, so that names in order are ages in order, whichever process wrote them. `v4` is the version of its
lines; names without it are of version 1 (docs/adr/0032). Later versions are left to processes that know them.

An owner is one run of one process, `<pid>-<random>`. It holds a lock (flock) on `<owner>.lock` as long as it lives, and
the kernel releases the lock however the process dies. A process that gets the lock of another owner therefore may ship,
and remove, all segments of that owner. Live processes never wait for each other. A lock file that was removed is
made again by its owner, and until the owner had time for that no other process takes it for dead.
"""

import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

OPEN, CLOSED, LOCK, ASIDE = ".open", ".seg", ".lock", ".bad"
LINE_VERSION = 4
"""The version of the lines that this process writes. Raise it whenever the fields of an event change: segments of other
versions are decoded line by line, and processes of earlier versions do not touch them."""
PENDING, CHARGES = ".pending", ".charges"
"""See pending.py and orphan_charges.py."""
MAX_ADOPTED = 32
"""Dead owners whose locks one process holds at once; it adopts the others later."""
WITHOUT_LOCK_SECONDS = 10.0
"""So long a lock file may be missing before its owner counts as dead, if it seems to be at work."""

_OWNER = r"\d+-[0-9a-f]{8}"
_SEGMENT = re.compile(rf"(\d{{13}})-({_OWNER})-(\d{{6,}})(?:\.v([1-9]\d*))?({re.escape(OPEN)}|{re.escape(CLOSED)})")
_LOCK = re.compile(rf"({_OWNER}){re.escape(LOCK)}")
_UNFINISHED = re.compile(rf"({_OWNER})(?:{re.escape(PENDING)}|{re.escape(CHARGES)})")


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One file of events."""

    created_ms: int
    owner: str
    sequence: int
    closed: bool
    size: int
    path: Path
    version: int
    """The version of its lines."""

    @property
    def identity(self) -> tuple[str, int]:
        """The same before and after it is closed."""
        return self.owner, self.sequence


def segment_path(directory: Path, created_ms: int, owner: str, sequence: int) -> Path:
    """Where an owner's next segment is opened."""
    return directory / f"{created_ms:013d}-{owner}-{sequence:06d}.v{LINE_VERSION}{OPEN}"


@dataclass(frozen=True, slots=True)
class Listing:
    """A spool directory as it was at one moment."""

    segments: Sequence[Segment]
    """Oldest first."""
    owners: frozenset[str]
    """Of any file here."""
    aside_bytes: int
    """What lies in `*.bad` files."""
    unfinished: frozenset[str] = frozenset()
    """Owners with pending lines or charges that were not sent."""

    @property
    def size(self) -> int:
        """Bytes that wait to be shipped, of all owners."""
        return sum(segment.size for segment in self.segments)


def list_directory(directory: Path) -> Listing:
    """Look at the directory; files that come and go meanwhile are seen or not. OSError if it cannot be read."""
    segments, owners, unfinished, aside_bytes = [], set(), set(), 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if (lock := _LOCK.fullmatch(entry.name)) is not None:
                owners.add(lock[1])
                continue
            if (other := _UNFINISHED.fullmatch(entry.name)) is not None:
                unfinished.add(other[1])
                continue
            match = _own_version(entry.name)
            if match is None and not entry.name.endswith(ASIDE):
                continue
            try:
                size = entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
            if match is None:
                aside_bytes += size
                continue
            owners.add(match[2])
            version, closed = int(match[4] or 1), match[5] == CLOSED
            segments.append(Segment(int(match[1]), match[2], int(match[3]), closed, size, Path(entry.path), version))
    return Listing(sorted(segments), frozenset(owners | unfinished), aside_bytes, frozenset(unfinished))


def _own_version(name: str) -> re.Match[str] | None:
    """Match the name of a segment whose lines this version knows. No version in the name is version 1."""
    match = _SEGMENT.fullmatch(name)
    return match if match is not None and (match[4] is None or 1 < int(match[4]) <= LINE_VERSION) else None


def drop_oldest(listing: Listing, excess: int) -> tuple[int, int]:
    """Remove the oldest segments of all owners until `excess` bytes are gone. Returns the lines and bytes removed.

    Segments that are being written stay. One that its owner is shipping at this moment may be counted as dropped
    and arrive all the same.
    """
    lines = size = 0
    for segment in listing.segments:
        if size >= excess or not segment.closed:
            continue
        try:
            count = segment.path.read_bytes().count(b"\n")
            segment.path.unlink()
        except FileNotFoundError:
            continue
        lines, size = lines + count, size + segment.size
    return lines, size


def take_ownership(directory: Path) -> tuple[str, int]:
    """A new owner and the descriptor that holds its lock. OSError if the directory cannot be written."""
    while True:
        owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        descriptor = os.open(directory / f"{owner}{LOCK}", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        # Between the two calls another process can adopt the name as a dead owner's. Then another name is tried.
        if _try_lock(descriptor):
            return owner, descriptor
        os.close(descriptor)


def is_still_at(path: Path, descriptor: int) -> bool:
    """Return whether an open file still has its name. Not if it was removed, or replaced by a copy."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # Nothing can be seen, such as in a directory without permission. The file is most probably there; whatever is
        # done with its name next fails with the same error.
        return True


def restore_ownership(directory: Path, owner: str, descriptor: int) -> int:
    """Make an owner's lock file again if it was removed or replaced.

    Returns:
        The descriptor that holds the lock: the one that was given, if the file is there. Also the given one if another
        process has locked the file: that process takes this one for dead and ships its segments until none is left.

    Raises:
        OSError: the directory cannot be written.
    """
    path = directory / f"{owner}{LOCK}"
    if is_still_at(path, descriptor):
        return descriptor
    again = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    if not _try_lock(again):
        os.close(again)
        return descriptor
    os.close(descriptor)
    return again


def release_ownership(directory: Path, owner: str, descriptor: int) -> None:
    """Release an owner's lock, and remove its file if the owner has no segment left."""
    with contextlib.suppress(OSError):
        if not any(segment.owner == owner for segment in list_directory(directory).segments):
            (directory / f"{owner}{LOCK}").unlink()
    os.close(descriptor)


class Orphans:
    """The dead owners that this process adopted. Used by one thread at a time."""

    def __init__(self, directory: Path, ourselves: str) -> None:
        self._directory = directory
        self._ourselves = ourselves
        self._locks: dict[str, int] = {}
        self._without_lock: dict[str, float] = {}
        """When owners were first seen without a lock file."""

    @property
    def owners(self) -> Container[str]:
        """Owners whose segments this process ships."""
        return self._locks

    def adopted(self) -> Sequence[str]:
        """Return the dead owners that are adopted now."""
        return list(self._locks)

    def adopt(self, listing: Listing, recover: Callable[[str], None] = lambda _: None) -> list[str]:
        """Take the locks of dead owners, and release those that have nothing left.

        Args:
            listing: the directory.
            recover: called with each adopted owner, before its segments are shipped. If it raises an OSError, the owner
                is left for the next time.

        Returns:
            The owners that were adopted now.
        """
        strangers = listing.owners - self._locks.keys() - {self._ourselves}
        self._release_finished({segment.owner for segment in listing.segments} | listing.unfinished)
        strangers -= self._may_be_alive(listing, strangers)
        adopted = []
        for owner in sorted(strangers):
            if len(self._locks) < MAX_ADOPTED and (descriptor := self._try(owner)) is not None:
                try:
                    recover(owner)
                except OSError:
                    os.close(descriptor)
                    continue
                except BaseException:
                    os.close(descriptor)
                    raise
                self._locks[owner] = descriptor
                adopted.append(owner)
        return adopted

    def close(self) -> None:
        """Release all locks; other processes adopt what is unfinished."""
        for descriptor in self._locks.values():
            os.close(descriptor)
        self._locks.clear()

    def _release_finished(self, with_segments: Iterable[str]) -> None:
        for owner in self._locks.keys() - set(with_segments):
            release_ownership(self._directory, owner, self._locks.pop(owner))

    def _may_be_alive(self, listing: Listing, owners: Iterable[str]) -> set[str]:
        """Return the owners that seem to be at work and whose lock files have been missing only for a moment."""
        writing = {segment.owner for segment in listing.segments if not segment.closed}
        without = {
            owner for owner in owners if (owner in writing or self._has(owner, PENDING)) and not self._has(owner, LOCK)
        }
        now = time.monotonic()
        self._without_lock = {owner: self._without_lock.get(owner, now) for owner in without}
        return {owner for owner, since in self._without_lock.items() if now - since < WITHOUT_LOCK_SECONDS}

    def _has(self, owner: str, suffix: str) -> bool:
        return (self._directory / f"{owner}{suffix}").exists()

    def _try(self, owner: str) -> int | None:
        try:
            # Created if it is missing: an owner of segments without a lock file is dead too.
            descriptor = os.open(self._directory / f"{owner}{LOCK}", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        except OSError:
            return None
        if _try_lock(descriptor):
            return descriptor
        os.close(descriptor)
        return None


def _try_lock(descriptor: int) -> bool:
    """Take the lock. Returns False if another process has it, or if its file was removed meanwhile."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(descriptor).st_nlink > 0
