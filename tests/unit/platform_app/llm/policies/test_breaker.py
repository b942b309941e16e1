import asyncio
import random
from collections.abc import Sequence

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from platform_app.config import BreakerConfig
from platform_app.errors import (
    PlatformError,
    ProviderAuthFailed,
    ProviderError,
    ProviderRateLimited,
    ProviderRejectedRequest,
    ProviderTimeout,
)
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.errors import BreakerOpen
from platform_app.llm.interfaces import UpstreamResponse
from platform_app.llm.policies.breaker import Breaker, BreakerState, Phase
from platform_app.llm.policies.deadline import Deadline
from platform_app.llm.requests import ModelCall
from tests.support.fakes.core import Count, FakeClock
from tests.support.fakes.upstreams import (
    RESPONSE,
    ScriptedUpstream,
    SlowUpstream,
    Step,
    a_call,
    a_stream,
)
from tests.support.timing.virtual_time import virtual_time

CONFIG = BreakerConfig(failure_ratio=0.5, minimum_calls=4, window_seconds=10, open_seconds=15, probes=2)


class Setting:
    """A breaker around a scripted upstream, and its clock."""

    def __init__(self, *steps: Step, config: BreakerConfig = CONFIG) -> None:
        self.clock = FakeClock()
        self.upstream = ScriptedUpstream(*steps)
        self.state = BreakerState("alpha", "large", config, self.clock)
        self.breaker = Breaker(self.upstream, self.state)

    def phase(self) -> Phase:
        return self.state.phase

    def then(self, *steps: Step) -> None:
        self.upstream.steps = list(steps)

    async def send(self, times: int = 1) -> list[PlatformError | UpstreamResponse]:
        results: list[PlatformError | UpstreamResponse] = []
        for _ in range(times):
            try:
                results.append(await self.breaker.send(a_call()))
            except PlatformError as error:
                results.append(error)
        return results

    async def open(self) -> None:
        self.then(ProviderError("x"))
        await self.send(4)
        assert self.phase() is Phase.OPEN

    async def half_open(self) -> None:
        await self.open()
        self.clock.advance(15)

    def probe(self) -> "asyncio.Task[UpstreamResponse]":
        return asyncio.create_task(self.breaker.send(a_call()))


def gauge() -> float | None:
    return REGISTRY.get_sample_value("platform_provider_breaker_state", {"provider": "alpha", "model": "large"})


class TestClosed:
    @virtual_time
    async def test_breaker_opens_at_minimum_calls(self) -> None:
        setting = Setting(ProviderError("x"))
        await setting.send(3)
        assert setting.phase() is Phase.CLOSED
        await setting.send(1)
        assert setting.phase() is Phase.OPEN

    @virtual_time
    async def test_breaker_stays_closed_below_failure_ratio(self) -> None:
        setting = Setting(RESPONSE)
        await setting.send(5)
        setting.then(ProviderError("x"))
        await setting.send(4)
        assert setting.phase() is Phase.CLOSED  # 4 of 9
        await setting.send(1)
        assert setting.phase() is Phase.OPEN  # 5 of 10

    @virtual_time
    async def test_failures_outside_window_are_dropped(self) -> None:
        setting = Setting(ProviderError("x"))
        await setting.send(3)
        setting.clock.advance(10)
        await setting.send(3)
        assert setting.phase() is Phase.CLOSED

    @pytest.mark.parametrize(
        "error",
        [ProviderRateLimited("x", retry_after=1), ProviderAuthFailed("x"), ProviderRejectedRequest("x")],
        ids=lambda error: type(error).__name__,
    )
    @virtual_time
    async def test_errors_without_failed_health_never_open_breaker(self, error: PlatformError) -> None:
        setting = Setting(error)
        await setting.send(50)
        assert setting.phase() is Phase.CLOSED
        assert setting.upstream.calls == 50

    @virtual_time
    async def test_invalid_requests_do_not_lower_failure_ratio(self) -> None:
        setting = Setting(ProviderRejectedRequest("x"))
        await setting.send(50)
        await setting.open()

    @virtual_time
    async def test_failing_streams_open_breaker(self) -> None:
        setting = Setting(lambda: a_stream(ProviderError("broke off")))
        for _ in range(4):
            assert setting.phase() is Phase.CLOSED
            stream = await setting.breaker.send(a_call())
            assert isinstance(stream, ChunkStream)
            with pytest.raises(ProviderError):
                _ = [chunk async for chunk in stream]
        assert setting.phase() is Phase.OPEN

    @virtual_time
    async def test_complete_and_closed_streams_count_as_works(self) -> None:
        setting = Setting(a_stream)
        for _ in range(10):
            stream = await setting.breaker.send(a_call())
            assert isinstance(stream, ChunkStream)
            _ = [chunk async for chunk in stream]
        setting.then(a_stream)
        for _ in range(10):
            stream = await setting.breaker.send(a_call())
            assert isinstance(stream, ChunkStream)
            await stream.aclose()
        assert setting.state._window.counts(setting.clock()) == (10, 0)

    @virtual_time
    async def test_cancelled_call_is_not_counted(self) -> None:
        setting = Setting(100.0, RESPONSE)
        task = asyncio.create_task(setting.breaker.send(a_call(500)))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert setting.state._window.counts(setting.clock()) == (0, 0)

    @virtual_time
    async def test_client_that_leaves_just_before_deadline_shows_nothing(self) -> None:
        setting = Setting(100.0, RESPONSE)
        task = asyncio.create_task(setting.breaker.send(a_call(10)))
        await asyncio.sleep(9.9)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert setting.state._window.counts(setting.clock()) == (0, 0)

    @virtual_time
    async def test_deadline_after_sending_counts_as_failure(self) -> None:
        setting = Setting(100.0, RESPONSE)
        with pytest.raises(ProviderTimeout):
            await Deadline(setting.breaker).send(a_call(10))
        assert setting.state._window.counts(setting.clock()) == (1, 1)

    @virtual_time
    async def test_deadline_before_sending_is_not_counted(self) -> None:
        class Queueing:
            async def send(self, call: ModelCall) -> UpstreamResponse:
                await asyncio.sleep(100)
                raise AssertionError

        state = BreakerState("alpha", "large", CONFIG, FakeClock())
        with pytest.raises(ProviderTimeout):
            await Deadline(Breaker(Queueing(), state)).send(a_call(10))
        assert state._window.counts(1000.0) == (0, 0)


class TestOpen:
    @virtual_time
    async def test_open_breaker_refuses_with_retry_after(self) -> None:
        setting = Setting(RESPONSE)
        await setting.open()
        setting.clock.advance(5)
        refused = Count("platform_provider_refused_total", provider="alpha", reason="breaker_open")
        sent = setting.upstream.calls
        (error,) = await setting.send()
        assert isinstance(error, BreakerOpen)
        assert error.retry_after == 10
        assert (error.code, error.status) == ("provider_unavailable", 503)
        assert setting.upstream.calls == sent
        assert refused.grown == 1

    @virtual_time
    async def test_late_failure_does_not_reopen_half_open_breaker(self) -> None:
        setting = Setting(5.0, RESPONSE)
        late = setting.probe()
        await asyncio.sleep(1)
        setting.then(ProviderError("x"))
        await setting.send(4)
        setting.clock.advance(15)
        setting.then(5.0, ProviderError("late"), RESPONSE)
        probe = setting.probe()
        await asyncio.sleep(0)
        assert setting.phase() is Phase.HALF_OPEN
        with pytest.raises(ProviderError, match="late"):
            await late
        assert setting.phase() is Phase.HALF_OPEN, "a failed probe would have opened it again"
        await probe
        assert setting.state._good_probes == 1

    @virtual_time
    async def test_late_failure_is_not_counted_after_closing(self) -> None:
        setting = Setting(5.0, 5.0, 5.0, 5.0, RESPONSE)
        late = [setting.probe() for _ in range(CONFIG.minimum_calls)]
        await asyncio.sleep(1)
        setting.then(ProviderError("x"))
        await setting.send(4)
        setting.clock.advance(15)
        setting.then(RESPONSE)
        await setting.send(CONFIG.probes)
        assert setting.phase() is Phase.CLOSED
        setting.then(ProviderError("late"))
        for task in late:
            with pytest.raises(ProviderError, match="late"):
                await task
        assert setting.phase() is Phase.CLOSED
        assert setting.state._window.counts(setting.clock()) == (0, 0)


class TestHalfOpen:
    @virtual_time
    async def test_half_open_breaker_admits_configured_probes(self) -> None:
        setting = Setting()
        await setting.half_open()
        sent = setting.upstream.calls
        setting.then(5.0, 5.0, RESPONSE)
        probes = [setting.probe() for _ in range(5)]
        done, under_way = await asyncio.wait(probes, timeout=1)
        assert len(under_way) == 2
        assert setting.upstream.calls - sent == 2
        for task in done:
            error = task.exception()
            assert isinstance(error, BreakerOpen)
            assert error.retry_after == 1
        await asyncio.wait(under_way)
        assert setting.phase() is Phase.CLOSED

    @virtual_time
    async def test_breaker_closes_after_all_probes_succeed(self) -> None:
        setting = Setting()
        await setting.half_open()
        setting.then(RESPONSE)
        await setting.send(1)
        assert setting.phase() is Phase.HALF_OPEN
        await setting.send(1)
        assert setting.phase() is Phase.CLOSED
        setting.then(ProviderError("x"))
        await setting.send(3)
        assert setting.phase() is Phase.CLOSED  # the earlier failures are dropped

    @virtual_time
    async def test_failed_probe_reopens_for_full_time(self) -> None:
        setting = Setting()
        await setting.half_open()
        await setting.send(1)
        assert setting.phase() is Phase.OPEN
        sent = setting.upstream.calls
        setting.clock.advance(14)
        await setting.send(3)
        assert setting.upstream.calls == sent
        setting.clock.advance(1)
        await setting.send(1)
        assert setting.upstream.calls == sent + 1

    @pytest.mark.parametrize("error", [ProviderRejectedRequest("x"), asyncio.CancelledError()], ids=["wrong", "gone"])
    @virtual_time
    async def test_probe_without_result_frees_its_place(self, error: BaseException) -> None:
        setting = Setting()
        await setting.half_open()
        setting.then(error)
        for _ in range(20):
            with pytest.raises((ProviderRejectedRequest, asyncio.CancelledError)):
                await setting.breaker.send(a_call())
        assert setting.phase() is Phase.HALF_OPEN
        setting.then(RESPONSE)
        await setting.send(2)
        assert setting.phase() is Phase.CLOSED

    @virtual_time
    async def test_first_chunk_settles_probe(self) -> None:
        setting = Setting()
        await setting.half_open()
        setting.then(a_stream)
        streams = await setting.send(2)
        assert setting.phase() is Phase.CLOSED
        for stream in streams:
            assert isinstance(stream, ChunkStream)
            await stream.aclose()
        assert setting.phase() is Phase.CLOSED

    @virtual_time
    async def test_probe_stream_failing_later_reopens_breaker(self) -> None:
        setting = Setting()
        await setting.half_open()
        setting.then(lambda: a_stream(ProviderError("broke off")))
        (stream,) = await setting.send(1)
        assert isinstance(stream, ChunkStream)
        with pytest.raises(ProviderError):
            _ = [chunk async for chunk in stream]
        assert setting.phase() is Phase.OPEN

    @virtual_time
    async def test_rate_limited_probe_counts_as_works(self) -> None:
        setting = Setting()
        await setting.half_open()
        setting.then(ProviderRateLimited("x", retry_after=1))
        await setting.send(2)
        assert setting.phase() is Phase.CLOSED


class TestWhatIsSeen:
    @virtual_time
    async def test_transition_sets_gauge_counter_and_log(self) -> None:
        names = ("open", "half_open", "closed")
        counts = [
            Count("platform_provider_breaker_transitions_total", provider="alpha", model="large", to=to) for to in names
        ]
        setting = Setting(RESPONSE)
        seen: list[float | None] = [gauge()]
        with capture_logs() as lines:
            await setting.open()
            seen.append(gauge())
            setting.clock.advance(15)
            setting.then(RESPONSE)
            await setting.send(1)
            seen.append(gauge())
            await setting.send(1)
            seen.append(gauge())
        assert seen == [0, 2, 1, 0]
        assert [count.grown for count in counts] == [1, 1, 1]
        assert [line["event"] for line in lines] == [f"breaker_{name}" for name in names]
        assert lines[0]["reason"] == "4 of 4 calls failed"
        assert {(line["provider"], line["model"]) for line in lines} == {("alpha", "large")}

    @virtual_time
    async def test_retired_breaker_stays_closed_in_gauge(self) -> None:
        setting = Setting()
        await setting.open()
        setting.state.retire()
        assert gauge() == 0
        setting.then(ProviderError("x"))
        await setting.send(20)
        assert gauge() == 0


@pytest.mark.parametrize("probes", [1, 3])
@virtual_time
async def test_random_probe_results_lose_no_place(probes: int) -> None:
    """Probes succeed, fail, are cancelled or refused in a long random order: finally the breaker still closes."""
    chance = random.Random(probes)
    config = CONFIG.model_copy(update={"probes": probes})
    setting = Setting(config=config)
    ends: Sequence[UpstreamResponse | BaseException] = (RESPONSE, ProviderError("x"), ProviderRejectedRequest("x"))
    for _ in range(300):
        setting.clock.advance(chance.choice([0.0, 1.0, 15.0]))
        breaker = Breaker(SlowUpstream(chance.random(), chance.choice(ends)), setting.state)
        task = asyncio.create_task(breaker.send(a_call()))
        if chance.random() < 0.4:
            asyncio.get_running_loop().call_later(chance.random(), task.cancel)
        task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        if chance.random() < 0.5:
            await asyncio.wait([task])
        else:
            await asyncio.sleep(chance.random() / 4)
        assert 0 <= setting.state._probing + setting.state._good_probes <= probes
    await asyncio.sleep(5)
    assert setting.state._probing == 0
    setting.clock.advance(15)
    setting.then(RESPONSE)
    await setting.send(probes)
    assert setting.phase() is Phase.CLOSED
