"""Durations and moments as people write and read them."""

from datetime import UTC, datetime, timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from apps.platform_cli.terminal.durations import day, duration, in_words, is_duration, moment, relative

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("14d", 14 * 86_400), ("36h", 36 * 3600), ("90m", 5400), ("30s", 30), ("2w", 14 * 86_400), ("0s", 0),
        ("1d12h", 36 * 3600), ("1d 12h", 36 * 3600), ("4 days", 4 * 86_400), ("1 day, 2 hours", 26 * 3600),
        ("1.5h", 5400), (" 5 Minutes ", 300), ("10min", 600), ("3 hrs", 10_800), ("2 secs", 2),
    ],
)  # fmt: skip
def test_duration_is_read(text: str, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)
    assert is_duration(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "14", "d", "-1d", "+1d", "1y", "1 month", "1dd", "d1", "1h30", "1e3s", "٣d", "inf", "9" * 12 + "d"],
)
def test_other_text_is_refused_as_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 14d, 36h, 90m"):
        duration(text)
    assert not is_duration(text)


@pytest.mark.parametrize("text", ["101w999999d", "999999999w"])
def test_endless_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="hundred years"):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"), (1, "1 second"), (59, "59 seconds"), (60, "1 minute"), (119, "1 minute"), (120, "2 minutes"),
        (5400, "90 minutes"), (7200, "2 hours"), (36 * 3600, "36 hours"), (2 * 86_400, "2 days"),
        (4 * 86_400 + 5, "4 days"), (-5, "0 seconds"),
    ],
)  # fmt: skip
def test_duration_is_written(seconds: int, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words


@given(st.integers(0, 10**9))
def test_written_duration_is_read_again(seconds: int) -> None:
    words = in_words(timedelta(seconds=seconds))
    assert in_words(duration(words)) == words


def test_moment_is_written_relative_to_now() -> None:
    assert relative(NOW + timedelta(days=4), NOW) == "in 4 days"
    assert relative(NOW - timedelta(hours=2), NOW) == "2 hours ago"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-26", datetime(2026, 11, 26, tzinfo=UTC)),
        ("2026-11-26T10:00", datetime(2026, 11, 26, 10, tzinfo=UTC)),
        ("2026-11-26 10:00:30", datetime(2026, 11, 26, 10, 0, 30, tzinfo=UTC)),
        ("2026-11-26T10:00:00+01:00", datetime(2026, 11, 26, 9, tzinfo=UTC)),
        ("2026-11-26T10:00:00Z", datetime(2026, 11, 26, 10, tzinfo=UTC)),
    ],
)
def test_moment_is_read(text: str, expected: datetime) -> None:
    assert moment(text) == expected


@pytest.mark.parametrize("text", ["2h", "2h ago", "2 hours ago"])
def test_moment_before_now_is_read(text: str) -> None:
    before = datetime.now(UTC)
    found = moment(text)
    assert before <= found + timedelta(hours=2) <= datetime.now(UTC)


@pytest.mark.parametrize("text", ["", "ago", "yesterday", "2026-13-01", "10:00", "999999999w"])
def test_other_text_is_refused_as_moment(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="not a time"):
        moment(text)


def test_day_is_read() -> None:
    assert day("2026-11-26") == datetime(2026, 11, 26, tzinfo=UTC)
    before = datetime.now(UTC)
    assert day("14d").date() in {(each - timedelta(days=14)).date() for each in (before, datetime.now(UTC))}
    for text in ("2026-11-26T10:00", "soon", "999999999w"):
        with pytest.raises(typer.BadParameter, match="not a day"):
            day(text)
