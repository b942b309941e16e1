"""Compute the start of calendar days and months in a time zone, with its clock changes."""

import time
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

Period = Literal["day", "month"]
Boundaries = tuple[int, int, int, int]
"""Starts of the previous, the current and the next period, and the end of the next one, in microseconds since 1970.
Redis chooses the period by its own clock, which may differ from this process's by up to a period."""


class Calendar:
    """The current period and its neighbours, computed once per period."""

    def __init__(self, period: Period, time_zone: str) -> None:
        self.period = period
        self.time_zone = time_zone
        self._zone = ZoneInfo(time_zone)
        self._around: Boundaries | None = None

    @property
    def tag(self) -> str:
        """The calendar's part of a counter's name."""
        return f"{self.period}:{self.time_zone}"

    @property
    def seconds(self) -> int:
        """Length of the current period."""
        _, start, end, _ = self.around(time.time())
        return (end - start) // 1_000_000

    def around(self, now: float) -> Boundaries:
        """Return the boundaries around `now`, a time.time()."""
        known = self._around
        if known is None or not known[1] <= now * 1_000_000 < known[2]:
            known = self._around = self._compute(now)
        return known

    def _compute(self, now: float) -> Boundaries:
        today = datetime.fromtimestamp(now, self._zone).date()
        if self.period == "day":
            starts = [today + timedelta(days=days) for days in (-1, 0, 1, 2)]
        else:
            starts = [_month_after(today, months) for months in (-1, 0, 1, 2)]
        last, present, following, end = (self._microseconds(day) for day in starts)
        return last, present, following, end

    def _microseconds(self, day: date) -> int:
        """Return the first moment of a day. If a clock change skips midnight, Python returns the moment of the
        change."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=self._zone)
        return int(midnight.astimezone(UTC).timestamp()) * 1_000_000


def _month_after(day: date, months: int) -> date:
    """Return the first day of the month that is so many months after the one of `day`."""
    years, month = divmod(day.month - 1 + months, 12)
    return date(day.year + years, month + 1, 1)
