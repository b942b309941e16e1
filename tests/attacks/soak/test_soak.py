"""The soak in its short form: every hostile input for a moment, and only what must hold on any machine."""

import asyncio
from collections.abc import Callable

import pytest

from tests.attacks.soak.soak import run_soak

pytestmark = pytest.mark.proof

SECONDS = 26.0


@pytest.mark.timeout(400)
async def test_hostile_input_spares_legitimate_client(show_figure: Callable[[str], None]) -> None:
    """Nothing that strangers send makes a legitimate request fail, or a worker's memory grow."""
    soak = await asyncio.to_thread(run_soak, SECONDS, lambda _: None)

    show_figure("\n" + soak.table())
    assert soak.robust_faults() == []
