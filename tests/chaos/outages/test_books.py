"""The comparison of the records with what clients saw, where one row stands for several requests."""

import pytest

from tests.chaos.outages.books import Decision, decision_problems
from tests.chaos.outages.load import Seen

UNAVAILABLE = "503 auth_unavailable"


def seen(*results: str) -> list[Seen]:
    return [Seen(f"r{number}", "client", "fault", result, 0.0) for number, result in enumerate(results)]


@pytest.mark.parametrize(
    "rows",
    [
        (Decision("r0", "200 None"), Decision("r1", UNAVAILABLE), Decision("r2", UNAVAILABLE)),
        (Decision("r0", "200 None"), Decision("r1", UNAVAILABLE, 2)),
    ],
)
def test_counted_refusals_balance(rows: tuple[Decision, ...]) -> None:
    assert decision_problems(rows, seen("200", UNAVAILABLE, UNAVAILABLE)) == []


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([Decision("r1", UNAVAILABLE, 2)], "1 responses without a decision"),
        ([Decision("r0", "200 None"), Decision("r1", UNAVAILABLE)], "1 responses without a decision"),
        ([Decision("r0", "200 None"), Decision("r1", "401 invalid_api_key", 2)], "1 responses without a decision"),
        ([Decision("r0", "200 None"), Decision("r1", UNAVAILABLE, 3)], "1 counted requests that no client sent"),
        (
            [Decision("r0", "200 None"), Decision("r0", "200 None"), Decision("r1", UNAVAILABLE, 2)],
            "1 decisions written twice",
        ),
        (
            [Decision("r0", "200 None"), Decision("r1", UNAVAILABLE, 2), Decision("r3", "200 None")],
            "1 decisions of requests that no client sent",
        ),
    ],
)
def test_wrong_decisions_are_named(rows: list[Decision], problem: str) -> None:
    found = decision_problems(rows, seen("200", UNAVAILABLE, UNAVAILABLE))
    assert [each.partition(",")[0] for each in found if each.startswith(problem)] == [problem]


def test_counts_may_contain_requests_without_response() -> None:
    """A worker was killed after it had counted a request, and before its client had the response."""
    rows = [Decision("r0", UNAVAILABLE, 2)]
    assert decision_problems(rows, seen(UNAVAILABLE, "ServerDisconnectedError")) == []
