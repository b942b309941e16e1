"""The drill in its short form: a clean phase and a few faults, and only what must hold on any machine."""

from collections.abc import Callable

import pytest

from tests.drill.drill import Drill
from tests.drill.faults import FAULTS
from tests.drill.monitoring import missing_programs
from tests.drill.stage import running_stage

pytestmark = pytest.mark.proof

FACTOR = 30
CLEAN_SECONDS = 20.0
"""Ten minutes of the rules' windows."""
SHORT = ("config-broken", "model-down", "redis-frozen")
REDIS_TIMEOUT_MS = 2000
"""A busy machine's server does not always respond in the usual 50 ms."""


@pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {', '.join(missing_programs())}")
@pytest.mark.timeout(1800)
def test_fault_fires_its_alert_and_resolves(show_figure: Callable[[str], None]) -> None:
    """No alert is sent in the clean phase, an inhibited alert is not sent, and each runbook shows the cause."""
    shown: list[str] = []
    with running_stage(FACTOR, redis_timeout_ms=REDIS_TIMEOUT_MS) as stage:
        drill = Drill(stage, shown.append, any_machine=True)
        drill.run_clean(CLEAN_SECONDS)
        for name in SHORT:
            drill.run_fault(FAULTS[name])
        drill.finish()

    show_figure("\n" + "\n".join(shown))
    assert drill.outcome.problems == []
