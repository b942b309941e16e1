"""When a running request renews its lease, and what it says about a store that is down."""

import asyncio
import gc
import weakref
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from platform_app.idempotency.service import IdempotencyService
from platform_app.idempotency.stored_response import StoredResponse
from tests.support.fakes.core import Count
from tests.support.fakes.memory_store import MemoryStore
from tests.support.idempotency.in_process import OUTCOMES, POLICY, begun
from tests.support.timing.virtual_time import virtual_time

ANSWER = StoredResponse(200, (), b"{}")


async def turns(count: int = 5) -> None:
    """Let other tasks take so many steps."""
    for _ in range(count):
        await asyncio.sleep(0)


@virtual_time
async def test_lease_is_renewed_three_times_within_it(keeper: IdempotencyService, store: MemoryStore) -> None:
    attempt = await begun(keeper)
    await asyncio.sleep(1.9)
    assert store.steps == ["begin"]
    await asyncio.sleep(4.2)
    assert store.steps == ["begin", "renew", "renew", "renew"]
    await attempt.release()
    await asyncio.sleep(60)
    assert store.steps[4:] == ["release"]


@virtual_time
async def test_forgotten_request_frees_its_key_after_two_hours(keeper: IdempotencyService, store: MemoryStore) -> None:
    attempt = await begun(keeper)
    await asyncio.sleep(3 * 3600)
    assert store.steps.count("renew") == 3600  # one every two seconds
    await attempt.release()


@virtual_time
async def test_renewal_ends_when_another_request_has_the_key(keeper: IdempotencyService, store: MemoryStore) -> None:
    late = await begun(keeper)
    store.forget()
    await (await begun(keeper)).finish(ANSWER)
    with capture_logs() as lines:
        await asyncio.sleep(60)
    assert store.steps.count("renew") == 1
    assert [line["event"] for line in lines] == ["idempotency_lease_lost"]
    await late.release()


@virtual_time
async def test_store_that_stays_down_is_logged_once(keeper: IdempotencyService, store: MemoryStore) -> None:
    unavailable = Count(OUTCOMES, outcome="unavailable")
    attempt = await begun(keeper)
    with capture_logs() as lines:
        await asyncio.sleep(1)
        for _ in range(2):  # down for five renewals, then up for five
            store.down = True
            await asyncio.sleep(10)
            store.down = False
            await asyncio.sleep(10)
    assert store.steps.count("renew") == 20
    assert [(line["event"], line["error"]) for line in lines] == [
        ("idempotency_lease_not_renewed", "ConnectionRefusedError")
    ] * 2
    assert unavailable.grown == 2
    await attempt.release()


@virtual_time
async def test_renewal_protects_a_request_that_began_without_the_store(store: MemoryStore) -> None:
    keeper = IdempotencyService(store, replace(POLICY, refuse_when_unavailable=False))
    store.down = True
    attempt = await begun(keeper)
    seen = []
    for seconds in (3, 2):
        await asyncio.sleep(seconds)
        seen.append(attempt.protected)
        store.down = False
    assert seen == [False, True]
    await attempt.release()
    assert store.steps == ["begin", "renew", "renew", "release"]


@virtual_time
async def test_disconnect_is_noted_at_once_and_kept(keeper: IdempotencyService, store: MemoryStore) -> None:
    attempt = await begun(keeper)
    attempt.client_disconnected()
    await turns()
    assert store.steps == ["begin", "leave"]
    assert [record.left for record in store.records.values()] == [True]
    assert not keeper._context.finishing
    await asyncio.sleep(3)
    assert store.steps == ["begin", "leave", "leave"]
    await attempt.finish(ANSWER)


@virtual_time
async def test_disconnect_while_the_store_is_down_is_noted_later(
    keeper: IdempotencyService, store: MemoryStore
) -> None:
    attempt = await begun(keeper)
    store.down = True
    with capture_logs() as lines:
        attempt.client_disconnected()
        await turns()
    assert [line["event"] for line in lines] == ["idempotency_lease_not_renewed"]
    store.down = False
    await asyncio.sleep(3)
    assert [record.left for record in store.records.values()] == [True]
    await attempt.release()


@virtual_time
async def test_late_renewal_of_a_finished_request_is_not_a_lost_lease(
    keeper: IdempotencyService, store: MemoryStore
) -> None:
    attempt = await begun(keeper)
    store.slow = renewed = asyncio.Event()
    attempt.client_disconnected()
    await turns()
    assert len(keeper._context.finishing) == 1, "the loop has only a weak reference to a task"
    store.slow = None
    await attempt.finish(ANSWER)
    renewed.set()
    with capture_logs() as lines:
        await turns()
    assert lines == []
    assert not keeper._context.finishing


@pytest.mark.parametrize("end", ["finish", "release"])
@virtual_time
async def test_ended_request_leaves_no_reference_cycle(keeper: IdempotencyService, end: str) -> None:
    """One for each request would be left to the garbage collector, which stops the event loop while it looks."""
    attempt = await begun(keeper)
    await asyncio.sleep(1)
    seen = weakref.ref(attempt)
    gc.disable()
    try:
        await (attempt.finish(ANSWER) if end == "finish" else attempt.release())
        del attempt
        await turns()
        assert seen() is None
    finally:
        gc.enable()
