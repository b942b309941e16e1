import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from platform_app.errors import Overloaded, ProviderError, ProviderTimeout
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.policies.concurrency import Concurrency, ConcurrencyLimit
from platform_app.llm.policies.deadline import Deadline
from tests.support.fakes.core import Count
from tests.support.fakes.upstreams import (
    RESPONSE,
    ScriptedUpstream,
    SlowUpstream,
    a_call,
    a_stream,
)
from tests.support.timing.virtual_time import VirtualTimeLoop, now, virtual_time


def slots(
    limit: int = 1, max_waiting: int = 10, queue_seconds: float = 5.0, provider: str = "alpha"
) -> ConcurrencyLimit:
    return ConcurrencyLimit(provider, limit, max_waiting, queue_seconds)


def gauges(provider: str) -> tuple[float | None, ...]:
    names = ("platform_provider_slots", "platform_provider_slots_in_use", "platform_provider_slots_waiting")
    return tuple(REGISTRY.get_sample_value(name, {"provider": provider}) for name in names)


def waiter(own: ConcurrencyLimit, seconds: float = 60.0) -> "asyncio.Task[bool]":
    return asyncio.create_task(own.acquire(now() + seconds))


class TestSlots:
    @virtual_time
    async def test_limit_holds_and_queue_is_in_order(self) -> None:
        own, order = slots(2, provider="beta"), list[int]()

        async def work(number: int) -> None:
            await own.acquire(now() + 60)
            order.append(number)
            await asyncio.sleep(1)
            own.release()

        tasks = [asyncio.create_task(work(number)) for number in range(6)]
        await asyncio.sleep(0.5)
        assert (own.in_use, own.waiting) == (2, 4)
        assert gauges("beta") == (2, 2, 4)
        await asyncio.gather(*tasks)
        assert order == list(range(6))
        assert (own.in_use, own.waiting) == (0, 0)
        assert gauges("beta") == (2, 0, 0)

    @virtual_time
    async def test_full_queue_refuses_at_once(self) -> None:
        own, refused = slots(1, 2), Count("platform_provider_refused_total", provider="alpha", reason="queue_full")
        await own.acquire(now() + 60)
        tasks, began = [waiter(own), waiter(own)], now()
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await own.acquire(now() + 60)
        assert caught.value.retry_after == 1
        assert (now() - began, refused.grown) == (0, 1)
        for _ in range(3):
            own.release()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert (own.in_use, own.waiting) == (0, 0)

    @virtual_time
    async def test_zero_queue_refuses_at_once(self) -> None:
        own = slots(1, 0)
        await own.acquire(now() + 60)
        with pytest.raises(Overloaded):
            await own.acquire(now() + 60)

    @pytest.mark.parametrize(("deadline", "waited"), [(60.0, 5.0), (3.0, 3.0)])
    @virtual_time
    async def test_queue_wait_times_out(self, deadline: float, waited: float) -> None:
        own, refused = slots(), Count("platform_provider_refused_total", provider="alpha", reason="queue_timeout")
        await own.acquire(now() + 60)
        began = now()
        with pytest.raises(Overloaded):
            await own.acquire(now() + deadline)
        assert now() - began == pytest.approx(waited)
        assert (own.in_use, own.waiting, refused.grown) == (1, 0, 1)

    @virtual_time
    async def test_cancelled_waiter_frees_its_queue_place(self) -> None:
        own = slots(1, 2)
        await own.acquire(now() + 60)
        first, second = waiter(own), waiter(own)
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        assert own.waiting == 1
        third = waiter(own)
        await asyncio.sleep(0)
        own.release()
        await asyncio.wait([second])
        assert not third.done()
        own.release()
        await third
        own.release()
        assert (own.in_use, own.waiting) == (0, 0)

    @virtual_time
    async def test_place_of_cancelled_waiter_is_passed_on(self) -> None:
        for leave_first in (True, False):
            own = slots()
            await own.acquire(now() + 60)
            leaving, next_one = waiter(own), waiter(own)
            await asyncio.sleep(0)
            if leave_first:
                leaving.cancel()
                own.release()
            else:
                own.release()
                leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            await next_one
            assert (own.in_use, own.waiting) == (1, 0)
            own.release()

    @virtual_time
    async def test_place_at_wait_timeout_is_not_lost(self) -> None:
        for early in (-1e-6, 0.0, 1e-6):
            own = slots(queue_seconds=5.0)
            await own.acquire(now() + 60)
            asyncio.get_running_loop().call_later(5.0 + early, own.release)
            try:
                await own.acquire(now() + 60)
            except Overloaded:
                await asyncio.sleep(0.1)
                assert (own.in_use, own.waiting) == (0, 0)
            else:
                assert (own.in_use, own.waiting) == (1, 0)

    @virtual_time
    async def test_new_call_does_not_overtake_queue(self) -> None:
        own = slots()
        await own.acquire(now() + 60)
        queued = waiter(own)
        await asyncio.sleep(0)
        own.release()
        late = waiter(own)
        await queued
        await asyncio.sleep(0)
        assert not late.done()
        own.release()
        await late

    @virtual_time
    async def test_resize_admits_waiters_or_waits_for_calls(self) -> None:
        own = slots(1)
        await own.acquire(now() + 60)
        tasks = [waiter(own) for _ in range(3)]
        await asyncio.sleep(0)
        own.resize(3, 10, 5.0)
        await asyncio.gather(*tasks[:2])
        assert (own.in_use, own.waiting) == (3, 1)
        own.resize(1, 10, 5.0)
        own.release()
        own.release()
        await asyncio.sleep(0)
        assert (own.in_use, own.waiting) == (1, 1)
        own.release()
        await tasks[2]
        assert (own.in_use, own.waiting) == (1, 0)

    @given(st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 5))
    def test_random_interleaving_keeps_the_count(self, seed: int, limit: int, max_waiting: int) -> None:
        """Calls hold a place, are cancelled while they wait or run, or time out, all at random moments; the limit
        changes meanwhile."""
        chance = random.Random(seed)
        times = [0.0, 0.5, 1.0, 1.5]  # few, so that many things happen in the same loop iteration

        async def caller(own: ConcurrencyLimit) -> None:
            await asyncio.sleep(chance.choice(times))
            await own.acquire(now() + chance.choice(times) + 0.5)
            try:
                await asyncio.sleep(chance.choice(times))
            finally:
                own.release()

        async def scenario() -> None:
            own = slots(limit, max_waiting, 1.0, "gamma")
            loop = asyncio.get_running_loop()
            tasks = [asyncio.create_task(caller(own)) for _ in range(15)]
            for task in tasks:
                if chance.random() < 0.4:
                    loop.call_later(chance.choice(times) * 2, task.cancel)
            loop.call_later(1.0, own.resize, chance.randint(1, 4), max_waiting, 1.0)
            while not all(task.done() for task in tasks):
                assert 0 <= own.waiting <= max_waiting
                assert 0 <= own.in_use <= 4
                await asyncio.sleep(0.25)
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (own.in_use, own.waiting) == (0, 0)
            own.retire()
            assert gauges("gamma") == (0, 0, 0)

        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(scenario())


class TestConcurrency:
    @virtual_time
    async def test_response_frees_its_place(self) -> None:
        own = slots()
        assert await Concurrency(ScriptedUpstream(RESPONSE), own).send(a_call()) is RESPONSE
        assert own.in_use == 0

    @pytest.mark.parametrize("error", [ProviderError("x"), KeyError("a bug")], ids=["ours", "bug"])
    @virtual_time
    async def test_error_frees_its_place(self, error: Exception) -> None:
        own = slots()
        with pytest.raises(type(error)):
            await Concurrency(ScriptedUpstream(error), own).send(a_call())
        assert own.in_use == 0

    @virtual_time
    async def test_cancellation_frees_its_place(self) -> None:
        own = slots()
        task = asyncio.create_task(Concurrency(SlowUpstream(50.0), own).send(a_call()))
        await asyncio.sleep(1)
        assert own.in_use == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert own.in_use == 0

    @pytest.mark.parametrize("how", ["read", "closed", "closed early", "broken"])
    @virtual_time
    async def test_stream_keeps_its_place_to_the_end(self, how: str) -> None:
        own = slots()
        made = a_stream(ProviderError("x") if how == "broken" else None)
        stream = await Concurrency(ScriptedUpstream(made), own).send(a_call())
        assert isinstance(stream, ChunkStream)
        assert own.in_use == 1
        if how != "closed early":
            await anext(stream)
            await anext(stream)
            assert own.in_use == 1
        if how == "read":
            assert [chunk async for chunk in stream] == []
        elif how == "broken":
            with pytest.raises(ProviderError):
                await anext(stream)
        else:
            await stream.aclose()
        assert own.in_use == 0
        await stream.aclose()
        assert own.in_use == 0

    @virtual_time
    async def test_refused_call_is_not_sent(self) -> None:
        own, upstream = slots(1, 0), SlowUpstream(5.0)
        first = asyncio.create_task(Concurrency(upstream, own).send(a_call()))
        await asyncio.sleep(0)
        call = a_call()
        with pytest.raises(Overloaded):
            await Concurrency(upstream, own).send(call)
        assert call.attempt_log.attempts == 0
        await first

    @virtual_time
    async def test_record_shows_the_wait_of_a_queued_call(self) -> None:
        own, upstream = slots(), SlowUpstream(1.0)
        first, queued = a_call(), a_call()
        await asyncio.gather(*(Concurrency(upstream, own).send(call) for call in (first, queued)))
        assert first.attempt_log.record.hops == []
        [(name, began, ended, outcome)] = queued.attempt_log.record.hops
        assert (name, outcome) == ("queue", "ok")
        assert began <= ended

    @virtual_time
    async def test_deadline_ends_queue_wait(self) -> None:
        own = slots()
        await own.acquire(now() + 60)
        with pytest.raises((Overloaded, ProviderTimeout)):
            await Deadline(Concurrency(ScriptedUpstream(RESPONSE), own)).send(a_call(3.0))
        assert (own.in_use, own.waiting) == (1, 0)
