"""Large steps run one after another, with iterations of the event loop for other work between them."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from platform_app.observability.event_loop.turns import FIRST, LARGE_BYTES, new_ticket, turn_for
from tests.support.timing.iterations import Iterations, counted_iterations

LARGE = LARGE_BYTES + 1


@pytest.fixture
async def iterations() -> AsyncIterator[Iterations]:
    with counted_iterations() as iterations:
        yield iterations


async def test_large_steps_leave_iterations_to_others(iterations: Iterations) -> None:
    steps: list[int] = []

    async def work() -> None:
        for _ in range(3):
            await turn_for(LARGE)
            steps.append(iterations.now)

    await asyncio.gather(*(work() for _ in range(5)))
    gaps = [later - earlier for earlier, later in pairwise(steps)]
    assert gaps == [4] + [3] * 13  # the first turn is taken, the others are given


async def test_work_that_began_first_ends_first() -> None:
    """Bodies that advance together are all in memory at once."""
    steps: list[int] = []

    async def work(ticket: int) -> None:
        for _ in range(3):
            await turn_for(LARGE, ticket)
            steps.append(ticket)

    tickets = [new_ticket() for _ in range(4)]
    await turn_for(LARGE)
    await asyncio.gather(*map(work, [*reversed(tickets), FIRST]))
    assert steps == sorted(steps) == [each for each in (FIRST, *tickets) for _ in range(3)]


async def test_steps_with_the_same_ticket_keep_their_order() -> None:
    steps: list[int] = []

    async def work(number: int) -> None:
        await turn_for(LARGE)
        steps.append(number)

    await asyncio.gather(*map(work, range(20)))
    assert steps == list(range(20))


async def test_small_work_waits_for_no_turn(iterations: Iterations) -> None:
    begun = iterations.now
    for _ in range(10):
        await turn_for(LARGE_BYTES)
        await turn_for(100_000)
    await turn_for(LARGE)
    assert iterations.now == begun


async def test_cancelled_work_gives_its_turn_to_the_next(iterations: Iterations) -> None:
    await turn_for(LARGE)
    gone, stays = (asyncio.ensure_future(turn_for(LARGE)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    begun = iterations.now
    await stays
    assert iterations.now <= begun + 4
    assert gone.cancelled()


async def test_turn_is_free_again_where_no_step_waits(iterations: Iterations) -> None:
    await turn_for(LARGE)
    for _ in range(3):
        await asyncio.sleep(0)
    begun = iterations.now
    await turn_for(LARGE)
    assert iterations.now == begun


def test_loop_that_ended_in_a_turn_takes_none_of_another() -> None:
    for _ in range(2):
        asyncio.run(asyncio.wait_for(turn_for(LARGE), 30))
