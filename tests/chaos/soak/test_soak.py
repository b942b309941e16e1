"""`make soak` in its short form: a moment of ordinary traffic, and only what must hold on any machine."""

import asyncio
from collections.abc import Callable

import pytest

from tests.chaos.soak.samples import Sample, slopes
from tests.chaos.soak.soak import run_soak

WARM_UP_SECONDS, SECONDS, PER_SECOND = 15.0, 15.0, 20.0


@pytest.mark.proof
@pytest.mark.timeout(900)
async def test_ordinary_traffic_leaves_nothing_behind(show_figure: Callable[[str], None]) -> None:
    """Series and files do not grow, threads are bounded, and each result is an expected one."""
    soaked = await asyncio.to_thread(run_soak, WARM_UP_SECONDS, SECONDS, PER_SECOND, lambda _: None)
    show_figure("\n" + soaked.table())
    assert soaked.robust_faults() == []
    assert soaked.results["200"] > 0
    assert soaked.results["left"] > 0
    assert soaked.reloads > 0


def test_slope_is_fitted_to_an_hour() -> None:
    samples = [Sample(100.0 + 10 * each, {"worker_mib": 90.0 + each, "threads": 4.0}) for each in range(5)]
    found = slopes(samples)
    assert (found["worker_mib"].per_hour, found["worker_mib"].error) == pytest.approx((360.0, 0.0))
    assert (found["threads"].per_hour, found["threads"].error) == (0.0, 0.0)


def test_growth_counts_only_beyond_noise() -> None:
    """Two samples that differ by chance do not make a slope; a growth beyond the noise does."""
    noisy = [Sample(15.0 * each, {"descriptors": 212.0 + (-1) ** each * 4 + each * 0.01}) for each in range(120)]
    growing = [Sample(15.0 * each, {"descriptors": 212.0 + (-1) ** each * 4 + each * 0.1}) for each in range(120)]
    assert not slopes(noisy)["descriptors"].exceeds(1.0)
    assert slopes(growing)["descriptors"].exceeds(1.0)
