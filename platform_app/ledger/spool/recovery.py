"""Recovers what a process left pending when it died: calls without an end, and counts that still grew.

The process that holds the dead process's lock calls this before it ships any of its segments. Every step can be
repeated: the results have the event ids of the pending lines, and the pending file is removed last.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from platform_app.ledger.events.event import BadLineError, decode, is_usage_line
from platform_app.ledger.events.intents import is_intent, read_intent
from platform_app.ledger.events.usage_record import INTERRUPTED, UsageRecord
from platform_app.ledger.spool.pending import LeftBehind, read_pending
from platform_app.ledger.spool.segments import CHARGES, CLOSED, PENDING, Listing, list_directory, segment_path


@dataclass(frozen=True, slots=True)
class Recovered:
    """The result of one process's pending lines."""

    owner: str
    calls: Sequence[UsageRecord]
    """Calls that had no end, as they are recorded now."""
    counts: int
    ended: int
    """Calls whose end was recorded by the last thing that the process did."""
    unreadable: int
    uncharged: int
    """Calls that are recorded and not charged, since the machine was restarted: they may have been charged before."""


@dataclass(slots=True)
class _Pending:
    """What the lines hold."""

    counts: list[bytes] = field(default_factory=list)
    calls: list[tuple[UsageRecord, object]] = field(default_factory=list)
    unreadable: int = 0


def recover(directory: Path, owner: str, now_ms: int) -> Recovered | None:
    """Write a segment with what the owner left pending, and a file of the charges that are due; None if it
    left nothing.

    Raises:
        OSError: recovery is not possible now; nothing is lost.
    """
    path = directory / f"{owner}{PENDING}"
    left = read_pending(path)
    if left is None:
        return None
    listing = list_directory(directory)
    pending = _read(left)
    ended = _ended(listing, owner, {record.event_id for record, _ in pending.calls})
    due = [(record, settlement) for record, settlement in pending.calls if record.event_id not in ended]
    charges = [
        orjson.dumps({"event_id": record.event_id, "settlement": settlement}, option=orjson.OPT_APPEND_NEWLINE)
        for record, settlement in due
        if settlement is not None
    ]
    if charges and left.same_boot:
        _write_whole(directory / f"{owner}{CHARGES}", charges)
    lines = [*pending.counts, *(record.line() for record, _ in due)]
    if lines:
        sequence = max((segment.sequence for segment in listing.segments if segment.owner == owner), default=0) + 1
        _write_whole(segment_path(directory, now_ms, owner, sequence).with_suffix(CLOSED), lines)
    path.unlink()
    return Recovered(
        owner,
        [record for record, _ in due],
        len(pending.counts),
        len(ended),
        pending.unreadable,
        0 if left.same_boot else len(charges),
    )


def _read(left: LeftBehind) -> _Pending:
    pending = _Pending()
    for line in left.lines:
        try:
            members = orjson.loads(line)
            if isinstance(members, dict) and is_intent(members):
                pending.calls.append(read_intent(members, left.head))
            else:
                pending.counts.append(decode(line).line())
        except (orjson.JSONDecodeError, BadLineError):
            pending.unreadable += 1
    return pending


def _ended(listing: Listing, owner: str, event_ids: set[str]) -> set[str]:
    """Which of these calls have an end in the owner's segments: it died after writing it, before it withdrew the
    pending line. Segments that are gone were shipped by the owner, which then continued and withdrew the line."""
    ended: set[str] = set()
    if not event_ids:
        return ended
    for segment in listing.segments:
        if segment.owner != owner:
            continue
        try:
            data = segment.path.read_bytes()
        except FileNotFoundError:
            continue
        for line in data.split(b"\n"):
            if is_usage_line(line) and (event_id := _end_of(line)) in event_ids:
                ended.add(event_id)
    return ended


def _end_of(line: bytes) -> str | None:
    """The event id of a call's end; None for anything else, such as the record that an earlier recovery wrote."""
    try:
        record = decode(line)
    except BadLineError:
        return None
    return record.event_id if isinstance(record, UsageRecord) and record.outcome != INTERRUPTED else None


def _write_whole(path: Path, lines: Sequence[bytes]) -> None:
    """Write a file that exists with all its lines or not at all."""
    temporary = path.parent / f"{path.name}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(b"".join(lines))
    temporary.rename(path)
