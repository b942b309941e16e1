"""A breaker that closes again or is replaced, and the calls that began before."""

from prometheus_client import REGISTRY

from platform_app.config import BreakerConfig
from platform_app.llm.policies.breaker import BreakerState, Phase
from platform_app.llm.policies.failure_table import Health
from tests.support.fakes.core import FakeClock

CONFIG = BreakerConfig(window_seconds=300, minimum_calls=4, failure_ratio=0.5, open_seconds=10, probes=2)


def gauge(model: str) -> float | None:
    return REGISTRY.get_sample_value("platform_provider_breaker_state", {"provider": "openai", "model": model})


def phase(state: BreakerState) -> Phase:
    """Return the phase; mypy does not see that calls change it."""
    return state.phase


def failed(state: BreakerState, calls: int) -> None:
    for _ in range(calls):
        state.admit().settle(Health.FAILS)


def test_failures_before_the_outage_do_not_count_after_it() -> None:
    """The window is longer than the outage, so the old failures are still inside it."""
    clock = FakeClock()
    state = BreakerState("openai", "gpt", CONFIG, clock)
    failed(state, 4)
    assert phase(state) is Phase.OPEN
    clock.advance(10)
    for _ in range(2):
        state.admit().settle(Health.WORKS)
    assert phase(state) is Phase.CLOSED
    failed(state, 3)
    assert phase(state) is Phase.CLOSED
    failed(state, 1)
    assert phase(state) is Phase.OPEN


def test_failure_of_a_call_from_before_the_outage_is_ignored() -> None:
    """The call began while the breaker was closed, and fails while probes decide, and after they have."""
    clock = FakeClock()
    state = BreakerState("openai", "gpt", CONFIG, clock)
    late, later = state.admit(), state.admit()
    failed(state, 4)
    clock.advance(10)
    probe = state.admit()
    late.settle(Health.FAILS)
    assert phase(state) is Phase.HALF_OPEN
    probe.settle(Health.WORKS)
    state.admit().settle(Health.WORKS)
    assert phase(state) is Phase.CLOSED
    failed(state, 3)
    later.settle(Health.FAILS)
    assert phase(state) is Phase.CLOSED


def test_stream_counts_as_one_probe() -> None:
    """Its first chunk is the probe's success; its end is not a second one."""
    clock = FakeClock()
    state = BreakerState("openai", "gpt", CONFIG, clock)
    failed(state, 4)
    clock.advance(10)
    stream = state.admit()
    stream.first_chunk()
    stream.stream_ended(None)
    assert phase(state) is Phase.HALF_OPEN
    state.admit().settle(Health.WORKS)
    assert phase(state) is Phase.CLOSED


def test_retired_breaker_admits_the_calls_that_still_have_it() -> None:
    """A call that began before the config changed may try its route again."""
    state = BreakerState("openai", "gpt", CONFIG, FakeClock())
    failed(state, 4)
    state.retire()
    for _ in range(10):
        state.admit().settle(Health.FAILS)
    assert phase(state) is Phase.CLOSED


def test_gauge_of_a_new_breaker_is_closed() -> None:
    """The series is there before the first change, and shows nothing of a breaker before it."""
    failed(BreakerState("openai", "new", CONFIG, FakeClock()), 4)
    assert gauge("new") == Phase.OPEN
    BreakerState("openai", "new", CONFIG, FakeClock())
    assert gauge("new") == Phase.CLOSED
