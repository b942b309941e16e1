"""A process that was held up itself does not blame others for it."""

import asyncio
import time

import pytest

from platform_app.observability.event_loop.own_stalls import ResponsiveClock, finished_within, result_within


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_gap_counts_at_most_two_ticks() -> None:
    clock = Clock()
    responsive = ResponsiveClock(1.0, clock)
    clock.now = 0.1
    assert responsive.look() == pytest.approx(0.1)
    clock.now = 100.0
    assert responsive.look() == pytest.approx(0.3)
    clock.now = 200.0
    responsive.begin()
    clock.now = 200.05
    assert responsive.look() == pytest.approx(0.35)


async def test_result_during_a_stall_is_in_time() -> None:
    async def quick() -> str:
        await asyncio.sleep(0.01)
        return "done"

    task = asyncio.ensure_future(quick())
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(finished_within(task, 0.05))
    await asyncio.sleep(0)
    time.sleep(0.5)  # noqa: ASYNC251 - the stall
    assert await waiting
    assert task.result() == "done"


async def test_work_that_never_ends_times_out_and_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        await result_within(0.02, never())
    assert cancelled.is_set()


async def test_error_of_the_work_is_raised() -> None:
    async def fails() -> None:
        raise OSError("refused")

    with pytest.raises(OSError, match="refused"):
        await result_within(5, fails())


async def test_cancelled_wait_cancels_the_work() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    waiting = asyncio.ensure_future(result_within(60, work()))
    await started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert cancelled.is_set()
