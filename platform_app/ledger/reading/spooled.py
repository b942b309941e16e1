"""Events of this machine's spool that the database may not have yet."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from platform_app.ledger.events.event import BadLineError, LedgerEvent, decode
from platform_app.ledger.spool.segments import CLOSED, Segment, list_directory


class SpoolTooLargeError(Exception):
    """The spool is too far behind to be searched."""


def search_spool(directory: Path, marks: Sequence[bytes], most_bytes: int) -> Iterator[LedgerEvent]:
    """Yield the events whose lines contain one of these texts.

    Raises:
        SpoolTooLargeError: the segments have more than `most_bytes`.
        OSError: the directory cannot be read.
    """
    listing = list_directory(directory)
    if listing.size > most_bytes:
        raise SpoolTooLargeError
    for segment in listing.segments:
        for line in read_segment(segment).split(b"\n"):
            if any(mark in line for mark in marks):
                try:
                    yield decode(line)
                except BadLineError:
                    continue  # a line that is being written, or that the writer will set aside


def read_segment(segment: Segment) -> bytes:
    """Return a segment's content; nothing if it was shipped meanwhile."""
    for path in (segment.path, segment.path.with_suffix(CLOSED)):  # it may be closed between listing and reading
        try:
            return path.read_bytes()
        except FileNotFoundError:
            continue
    return b""
