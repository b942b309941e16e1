"""`make chaos` in its short form: a few faults for a moment each, and the same books."""

from collections.abc import Callable

import pytest

from tests.chaos.outages.books import documented_results
from tests.chaos.outages.faults import FAULTS
from tests.chaos.outages.report import table
from tests.chaos.outages.run import run
from tests.chaos.outages.stage import running_stage

SHORT = ("postgres-killed", "valkey-killed", "provider-failing", "workers-killed")
SECONDS = 2.0
REDIS_TIMEOUT_MS = 2000
"""A busy machine's server does not always respond in the usual 50 ms, and each process would count by itself."""


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_books_balance_after_outages(show_figure: Callable[[str], None]) -> None:
    """Records equal what clients saw, none is doubled, limits hold, and gauges come to rest."""
    shown: list[str] = []
    with running_stage(redis_timeout_ms=REDIS_TIMEOUT_MS) as stage:
        outcome = run(stage, [FAULTS[name] for name in SHORT], SECONDS, shown.append)
    show_figure("\n" + table(outcome.rows))
    assert outcome.problems == []
    assert all(row.served for row in outcome.rows)


def test_documented_results_are_read_from_the_page() -> None:
    assert {"503 draining", "429 rate_limited", "503 ledger_unavailable"} <= documented_results()
