from datetime import date, timedelta

import pytest

from platform_app.errors import ValidationFailed
from platform_app.ledger.events.codecs import dollars
from platform_app.ledger.reading.usage_query import FIELDS, MAX_DAYS, UsageFilter, check_groups

TODAY = date(2026, 11, 25)


@pytest.mark.parametrize(
    ("wanted", "since", "until"),
    [
        (UsageFilter(), date(2026, 10, 27), date(2026, 11, 26)),
        (UsageFilter(until=date(2026, 3, 1)), date(2026, 1, 30), date(2026, 3, 1)),
        (UsageFilter(since=date(2026, 11, 25)), date(2026, 11, 25), date(2026, 11, 26)),
        (UsageFilter(since=date(2020, 1, 1), until=date(2020, 1, 2)), date(2020, 1, 1), date(2020, 1, 2)),
        (UsageFilter(since=TODAY - timedelta(MAX_DAYS - 1)), TODAY - timedelta(MAX_DAYS - 1), date(2026, 11, 26)),
    ],
)
def test_period_defaults_to_thirty_days_up_to_today(wanted: UsageFilter, since: date, until: date) -> None:
    assert wanted.period(TODAY) == (since, until)


@pytest.mark.parametrize(
    ("wanted", "problems"),
    [
        (UsageFilter(since=TODAY, until=TODAY), ["since: must be before until"]),
        (UsageFilter(since=TODAY + timedelta(days=1)), ["since: must be before until"]),
        (UsageFilter(since=TODAY - timedelta(MAX_DAYS)), ["since: at most 3660 days"]),
        (UsageFilter(since=date.min), ["since: a day between"]),
        (UsageFilter(until=date.max), ["until: a day between"]),
        (UsageFilter(owner="a\nb", model="m" * 257, until=date.min), ["owner: ", "model: ", "until: "]),
    ],
)
def test_every_problem_is_named(wanted: UsageFilter, problems: list[str]) -> None:
    with pytest.raises(ValidationFailed) as caught:
        wanted.period(TODAY)
    details = caught.value.details or []
    assert len(details) == len(problems)
    for detail, problem in zip(details, problems, strict=True):
        assert detail.startswith(problem)


def test_groups_are_unique_and_in_the_order_of_the_request() -> None:
    assert check_groups(["model", "day", "model"]) == ["model", "day"]
    assert check_groups(list(FIELDS)) == list(FIELDS)
    for nothing in ([], ["tenant"], ["day", "x; DROP TABLE usage_daily"]):
        with pytest.raises(ValidationFailed):
            check_groups(nothing)


def test_dollars_are_exact() -> None:
    assert [dollars(amount) for amount in (0, 1, 999_999, 1_000_000, 123_456_789_012_345)] == [
        "0.000000", "0.000001", "0.999999", "1.000000", "123456789.012345",
    ]  # fmt: skip
