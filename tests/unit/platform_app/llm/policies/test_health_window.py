from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.llm.policies.breaker import HealthWindow


def test_window_counts_and_drops_old_calls() -> None:
    window = HealthWindow(10.0)
    window.add(True, 100.0)
    window.add(False, 100.5)
    assert window.counts(108.9) == (2, 1)
    assert window.counts(110.0) == (0, 0)


def test_call_counts_until_its_slice_leaves_the_window() -> None:
    """A call at the end of its slice counts for 90 % of the window, and one at the beginning for all of it."""
    for late, early in ((100.99, 100.0), (0.99, 0.0)):  # also right after the clock's zero
        window = HealthWindow(10.0)
        window.add(True, early)
        window.add(False, late)
        assert window.counts(late + 8.99) == (2, 1)
        assert window.counts(early + 9.99) == (2, 1)
        assert window.counts(early + 10.0) == (0, 0)


@pytest.mark.parametrize("tenths", range(10000, 10020))
def test_no_call_is_dropped_before_90_percent_of_window(tenths: int) -> None:
    window, began = HealthWindow(10.0), tenths / 10
    window.add(True, began)
    assert window.counts(began + 8.99) == (1, 1)
    assert window.counts(began + 10.01) == (0, 0)


def test_window_is_as_long_as_the_config_says() -> None:
    window = HealthWindow(300.0)
    window.add(True, 1000.0)
    assert window.counts(1260.0) == (1, 1)
    assert window.counts(1320.0) == (0, 0)


def test_clear_resets_counts() -> None:
    window = HealthWindow(10.0)
    window.add(True, 100.0)
    window.clear()
    assert window.counts(100.0) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=60))
def test_call_counts_for_90_to_100_percent_of_window(steps: list[tuple[int, bool]]) -> None:
    """Times in quarters of a second, which floats represent exactly; slices of one second."""
    window, now, seen = HealthWindow(10.0), 1000.0, deque[tuple[float, bool]]()
    for pause, failed in steps:
        now += pause / 4
        window.add(failed, now)
        seen.append((now, failed))
        calls, failures = window.counts(now)
        young = [bad for at, bad in seen if at > now - 9.0]
        not_old = [bad for at, bad in seen if at > now - 10.0]
        assert len(young) <= calls <= len(not_old)
        assert sum(young) <= failures <= sum(not_old)
