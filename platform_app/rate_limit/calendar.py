"""Where calendar days and months begin, in a declared time zone, whatever its clock changes do."""

import time
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

Period = Literal["day", "month"]
Boundaries = tuple[int, int, int, int]
"""Starts of the last, the present and the next period and the end of the next one, in microseconds since 1970. Redis
chooses by its own clock, so the two clocks may differ by a whole period."""


class Calendar:
    """The periods around now; worked out once per period."""

    def __init__(self, period: Period, time_zone: str) -> None:
        self.period = period
        self.time_zone = time_zone
        self._zone = ZoneInfo(time_zone)
        self._around: Boundaries | None = None

    @property
    def tag(self) -> str:
        """Names the calendar in a counter's name."""
        return f"{self.period}:{self.time_zone}"

    @property
    def seconds(self) -> int:
        """The length of the present period."""
        _, start, end, _ = self.around(time.time())
        return (end - start) // 1_000_000

    def around(self, now: float) -> Boundaries:
        """The boundaries around `now`, a time.time()."""
        known = self._around
        if known is None or not known[1] <= now * 1_000_000 < known[2]:
            known = self._around = self._work_out(now)
        return known

    def _work_out(self, now: float) -> Boundaries:
        today = datetime.fromtimestamp(now, self._zone).date()
        if self.period == "day":
            starts = [today + timedelta(days=days) for days in (-1, 0, 1, 2)]
        else:
            first = today.replace(day=1)
            starts = [_month_after(first, months) for months in (-1, 0, 1, 2)]
        last, present, following, end = (self._microseconds(day) for day in starts)
        return last, present, following, end

    def _microseconds(self, day: date) -> int:
        """The first moment of a day. Where its midnight does not exist, Python takes the moment of the change."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=self._zone)
        return int(midnight.astimezone(UTC).timestamp()) * 1_000_000


def _month_after(first: date, months: int) -> date:
    years, month = divmod(first.month - 1 + months, 12)
    return date(first.year + years, month + 1, 1)
