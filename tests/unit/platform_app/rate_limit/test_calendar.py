"""Calendar periods in a time zone, whatever its clocks do."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.rate_limit.calendar import Calendar, Period


def at(text: str, zone: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("period", "zone", "now", "start", "end"),
    [
        ("day", "UTC", "2026-11-25T13:00", "2026-11-25T00:00", "2026-11-26T00:00"),
        ("day", "Europe/Berlin", "2026-03-29T12:00", "2026-03-29T00:00", "2026-03-30T00:00"),
        ("day", "Europe/Berlin", "2026-10-25T23:59", "2026-10-25T00:00", "2026-10-26T00:00"),
        ("day", "Asia/Kathmandu", "2026-01-01T00:00", "2026-01-01T00:00", "2026-01-02T00:00"),
        ("month", "America/New_York", "2026-12-31T23:59", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("month", "UTC", "2028-02-29T12:00", "2028-02-01T00:00", "2028-03-01T00:00"),
    ],
)
def test_current_period_contains_now(period: Period, zone: str, now: str, start: str, end: str) -> None:
    _, began, ends, _ = Calendar(period, zone).around(at(now, zone))
    assert (began / 1e6, ends / 1e6) == (at(start, zone), at(end, zone))


def test_clock_change_days_have_23_and_25_hours() -> None:
    spring = Calendar("day", "Europe/Berlin").around(at("2026-03-29T12:00", "Europe/Berlin"))
    autumn = Calendar("day", "Europe/Berlin").around(at("2026-10-25T12:00", "Europe/Berlin"))
    assert [(spring[2] - spring[1]) / 3.6e9, (autumn[2] - autumn[1]) / 3.6e9] == [23, 25]


@given(
    st.sampled_from(["day", "month"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Africa/Cairo"]),
    st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1)),  # noqa: DTZ001 - a moment is made of it below
)
def test_periods_follow_each_other(period: Period, zone: str, moment: datetime) -> None:
    now = moment.replace(tzinfo=ZoneInfo("UTC")).timestamp()
    last, start, end, beyond = Calendar(period, zone).around(now)
    assert last < start <= now * 1e6 < end < beyond
    assert Calendar(period, zone).around(end / 1e6)[:2] == (start, end)
    longest = timedelta(hours=49 if period == "day" else 32 * 24)
    assert end - start <= longest.total_seconds() * 1e6


def test_period_is_computed_once() -> None:
    calendar = Calendar("day", "UTC")
    first = calendar.around(at("2026-11-25T01:00", "UTC"))
    for same_day in ("2026-11-25T00:00", "2026-11-25T23:00", "2026-11-25T23:59:59"):
        assert calendar.around(at(same_day, "UTC")) is first
    assert calendar.around(at("2026-11-26T00:00", "UTC"))[1] == first[2]
    assert calendar.around(at("2026-11-25T23:59:59", "UTC"))[2] == first[2]
    assert calendar.around(at("2026-11-24T23:59", "UTC"))[2] == first[1]


def test_neighbours_of_a_period_are_whole_periods() -> None:
    hour = 3_600_000_000
    last, start, end, beyond = Calendar("day", "UTC").around(at("2026-11-25T13:00", "UTC"))
    assert (start - last, end - start, beyond - end) == (24 * hour, 24 * hour, 24 * hour)
    last, start, end, beyond = Calendar("month", "UTC").around(at("2026-12-25T13:00", "UTC"))
    assert [(each - start) // (24 * hour) for each in (last, end, beyond)] == [-30, 31, 62]


def test_tag_and_length_are_those_of_the_current_period(monkeypatch: pytest.MonkeyPatch) -> None:
    calendar = Calendar("day", "Europe/Berlin")
    assert calendar.tag == "day:Europe/Berlin"
    monkeypatch.setattr("time.time", lambda: at("2026-03-29T12:00", "Europe/Berlin"))
    assert calendar.seconds == 23 * 3600
    assert Calendar("month", "UTC").seconds == 31 * 86_400
