"""Durations and moments as people write them (`14d`, `36h`, `4 days`, `2h ago`) and read them."""

import re
from datetime import UTC, datetime, timedelta

import typer

_UNITS = {"w": 7 * 86_400, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_NAMES = {"week": "w", "day": "d", "hour": "h", "hr": "h", "minute": "m", "min": "m", "second": "s", "sec": "s"}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([a-z]+)", re.ASCII)
_LONGEST = timedelta(days=36_525)
EXPECTED = "expected a number and a unit, such as 14d, 36h, 90m, 30s, 1d12h or '4 days'"


def duration(text: str) -> timedelta:
    """Return the duration that this text names.

    Raises:
        BadParameter: the text has another form, or names more than a hundred years.
    """
    found = _duration(text.strip().lower())
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a duration; {EXPECTED}")
    if found > _LONGEST:
        raise typer.BadParameter(f"{text!r} is longer than a hundred years")
    return found


def is_duration(text: str) -> bool:
    """Return whether a text is a duration."""
    return _duration(text.strip().lower()) is not None


def moment(text: str) -> datetime:
    """Return a moment, in UTC if it has no zone: `2026-11-26`, `2026-11-26T10:00:00+01:00`, or `2h ago` (also `2h`).

    Raises:
        BadParameter: the text has another form.
    """
    words = text.strip().lower()
    ago = _duration(words.removesuffix("ago").strip())
    try:
        if ago is not None:
            return datetime.now(UTC) - ago
        found = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is not a time; expected one such as 2026-11-26, 2026-11-26T10:00:00Z or 2h (two hours ago)"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def day(text: str) -> datetime:
    """Return midnight of a day, UTC: `2026-11-26`, or `14d` for the day fourteen days ago.

    Raises:
        BadParameter: the text has another form.
    """
    try:
        return datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        ago = _duration(text.strip().lower().removesuffix("ago").strip())
    if ago is None or ago > _LONGEST:
        raise typer.BadParameter(f"{text!r} is not a day; expected one such as 2026-11-26 or 14d (fourteen days ago)")
    return (datetime.now(UTC) - ago).replace(hour=0, minute=0, second=0, microsecond=0)


def in_words(span: timedelta) -> str:
    """Return a duration for people, rounded down: `4 days`, `36 hours`, `1 minute`."""
    seconds = max(0, int(span.total_seconds()))
    for size, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}s"
    if seconds >= 60:
        return "1 minute"
    return f"{seconds} second{'' if seconds == 1 else 's'}"


def relative(at: datetime, now: datetime) -> str:
    """Return a moment for people: `in 4 days`, `2 hours ago`."""
    return f"in {in_words(at - now)}" if at > now else f"{in_words(now - at)} ago"


def _duration(text: str) -> timedelta | None:
    seconds, at = 0.0, 0
    while at < len(text):
        part = _PART.match(text, at)
        unit = None if part is None else _unit(part[2])
        if part is None or unit is None:
            return None
        seconds += float(part[1]) * _UNITS[unit]
        at = part.end()
        while at < len(text) and text[at] in " ,":
            at += 1
    try:
        return timedelta(seconds=seconds) if text else None
    except OverflowError:
        return timedelta.max


def _unit(name: str) -> str | None:
    return name if name in _UNITS else _NAMES.get(name.removesuffix("s"))
