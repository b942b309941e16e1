import asyncio

import pytest

from platform_app.errors import ProviderTimeout
from platform_app.llm.interfaces import UpstreamResponse
from platform_app.llm.policies.deadline import Deadline
from platform_app.llm.requests import ModelCall
from tests.support.fakes.upstreams import RESPONSE, ScriptedUpstream, SlowUpstream, a_call
from tests.support.timing.virtual_time import now, virtual_time


@virtual_time
async def test_response_in_time_is_returned() -> None:
    assert await Deadline(SlowUpstream(9.0)).send(a_call(10.0)) is RESPONSE


@virtual_time
async def test_deadline_raises_provider_timeout() -> None:
    upstream, began = SlowUpstream(100.0), now()
    with pytest.raises(ProviderTimeout) as caught:
        await Deadline(upstream).send(a_call(10.0))
    assert now() - began == pytest.approx(10.0)
    assert upstream.running == 0
    assert caught.value.retry_after is None


@virtual_time
async def test_passed_deadline_raises_at_once() -> None:
    with pytest.raises(ProviderTimeout):
        await Deadline(SlowUpstream(1.0)).send(a_call(-1.0))


@virtual_time
async def test_cancellation_stays_cancellation() -> None:
    task = asyncio.create_task(Deadline(SlowUpstream(100.0)).send(a_call(10.0)))
    await asyncio.sleep(1.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@virtual_time
async def test_cancellation_at_deadline_stays_cancelled() -> None:
    """Both cancellations are pending at once; the outer one must win, in any order."""
    for early in (0.0, 1e-9):
        task = asyncio.create_task(Deadline(SlowUpstream(100.0)).send(a_call(10.0)))
        asyncio.get_running_loop().call_later(10.0 - early, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task


@virtual_time
async def test_inner_timeout_error_passes_unchanged() -> None:
    with pytest.raises(TimeoutError):
        await Deadline(ScriptedUpstream(TimeoutError())).send(a_call())


@virtual_time
async def test_response_despite_deadline_is_kept() -> None:
    """Otherwise no code would close a stream that an adapter got in the same moment."""

    class Stubborn:
        async def send(self, call: ModelCall) -> UpstreamResponse:
            try:
                await asyncio.sleep(100.0)
            except asyncio.CancelledError:
                return RESPONSE
            raise AssertionError

    assert await Deadline(Stubborn()).send(a_call(1.0)) is RESPONSE
