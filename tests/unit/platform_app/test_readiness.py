"""Readiness is found once a second, once for all who wait, and no client that leaves ends it for the others."""

import asyncio

import pytest

from platform_app.readiness import CachedReadiness, Check


class Slow:
    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def checks(self) -> list[Check]:
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [Check("asked", True, True, str(self.asked))]


async def test_readiness_is_kept_for_a_second() -> None:
    now, slow = [0.0], Slow()
    slow.gate.set()
    cached = CachedReadiness(slow, 1.0, clock=lambda: now[0])
    for moment, asked in ((0.0, 1), (0.9, 1), (1.0, 2), (1.9, 2)):
        now[0] = moment
        assert (await cached.checks())[0].detail == str(asked)


async def test_concurrent_readiness_probes_share_one_check() -> None:
    slow = Slow()
    cached = CachedReadiness(slow)
    probes = [asyncio.create_task(cached.checks()) for _ in range(64)]
    await asyncio.sleep(0)
    probes[0].cancel()
    await asyncio.gather(probes[0], return_exceptions=True)
    slow.gate.set()
    assert {found[0].detail for found in await asyncio.gather(*probes[1:])} == {"1"}
    assert slow.asked == 1


async def test_failed_readiness_check_is_not_kept() -> None:
    slow = Slow()
    slow.gate.set()
    slow.error = RuntimeError("a bug")
    cached = CachedReadiness(slow)
    with pytest.raises(RuntimeError):
        await cached.checks()
    slow.error = None
    assert (await cached.checks())[0].ok


async def test_closing_ends_a_running_check() -> None:
    slow = Slow()
    cached = CachedReadiness(slow)
    probe = asyncio.create_task(cached.checks())
    await asyncio.sleep(0)
    await cached.aclose()
    with pytest.raises(asyncio.CancelledError):
        await probe
