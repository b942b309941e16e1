"""The policies around real routes over real sockets: what the simulator records agrees with the tables."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from apps.provider_simulator.record import RequestRecord
from apps.provider_simulator.server import ProviderSimulator
from platform_app.config import PlatformConfig
from platform_app.errors import (
    Overloaded,
    PlatformError,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.errors import BreakerOpen
from platform_app.llm.http.response import ProviderLimits
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.interfaces import Upstream, UpstreamResponse
from platform_app.llm.models.builder import routes_by_model
from platform_app.llm.models.provider_route import ProviderRoute
from platform_app.llm.policies import state as shared_state
from platform_app.llm.policies.breaker import BreakerState
from platform_app.llm.policies.chain import build_policy_chains
from platform_app.llm.policies.failure_table import failure_policy_of
from platform_app.llm.policies.state import PolicyState
from platform_app.llm.providers.factory import make_adapter
from platform_app.llm.requests import ModelCall
from platform_app.llm.responses import ModelResponse
from tests.support.fakes.core import FakeClock
from tests.support.gateway.http import until
from tests.support.providers.faults import EXPECTED, Expected
from tests.support.timing.responsive_time import responsive_time

QUICK = {"max_attempts": 2, "base_seconds": 0.01, "max_seconds": 0.02, "retry_after_cap_seconds": 2}
NO_RETRY = {"max_attempts": 1}
SHORT = {"rate-limited": "sim-rate-limited-0.05", "overloaded": "sim-overloaded-0.05"}
"""The faults of EXPECTED, with waits that keep the tests short."""


class FixedCredentials:
    """One key for every provider, which never changes."""

    async def get(self, name: str) -> str:
        return "sk-policies-27c1"

    async def refresh(self, name: str, rejected: str) -> str:
        return rejected


class Chains:
    """The upstreams of one model `m`, from sections of a config file. The provider `one` times out after
    `idle_timeout_seconds` without data."""

    def __init__(
        self,
        pool: ConnectionPool,
        base_url: str,
        routes: list[dict[str, Any]],
        providers: dict[str, dict[str, Any]] | None = None,
        idle_timeout_seconds: float = 30,
        **policies: Any,
    ) -> None:
        names = {route["provider"] for route in routes}
        sections = {
            name: {"base_url": base_url, "api_key_secret": "KEY", **(providers or {}).get(name, {})} for name in names
        }
        config = PlatformConfig.model_validate(
            {"providers": sections, "models": {"m": {"routes": routes}}, "policies": {"retry": QUICK, **policies}}
        )
        adapters = {
            name: make_adapter(
                provider, pool, ProviderLimits(30, idle_timeout_seconds if name == "one" else 30, 1024 * 1024)
            )
            for name, provider in config.providers.items()
        }
        self.state = PolicyState()
        self.upstream: Upstream = build_policy_chains(
            config,
            routes_by_model(config),
            lambda route: ProviderRoute(route, adapters[route.provider], FixedCredentials()),
            self.state,
        )["m"]

    def call(self, seconds: float = 60.0, stream: bool = False) -> ModelCall:
        body = {"messages": [{"role": "user", "content": "Hello, how are you?"}]}
        return ModelCall(body, asyncio.get_running_loop().time() + seconds, stream=stream)

    async def send(self, seconds: float = 60.0, stream: bool = False) -> UpstreamResponse:
        return await self.upstream.send(self.call(seconds, stream))

    def in_use(self, provider: str) -> tuple[int, int]:
        slots = self.state._limits[provider]
        return slots.in_use, slots.waiting


MakeChains = Callable[..., Chains]


@pytest.fixture
async def pool() -> AsyncIterator[ConnectionPool]:
    opened = ConnectionPool(10_000)
    yield opened
    await opened.aclose()


@pytest.fixture
def chains(pool: ConnectionPool, simulator: ProviderSimulator) -> MakeChains:
    """Create chains to the simulator, whose records only this test uses."""
    simulator.reset()
    return lambda *routes, **more: Chains(pool, simulator.base_url, list(routes), **more)


def to(model: str, provider: str = "one", **fields: Any) -> dict[str, Any]:
    return {"provider": provider, "model": model, **fields}


async def drain(answer: UpstreamResponse) -> None:
    if isinstance(answer, ChunkStream):
        try:
            async for _ in answer:
                pass
        finally:
            await answer.aclose()


def most_at_once(records: list[RequestRecord]) -> int:
    marks = sorted((at, step) for r in records for at, step in ((r.started, 1), (r.ended or r.started, -1)))
    running = most = 0
    for _, step in marks:
        running += step
        most = max(most, running)
    return most


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("fault", sorted(EXPECTED))
async def test_simulator_fault_is_retried_by_failure_table(
    fault: str, stream: bool, chains: MakeChains, simulator: ProviderSimulator
) -> None:
    expected: Expected = EXPECTED[fault]
    kind = expected.stream if stream else expected.json
    model = SHORT.get(fault, expected.model)
    made = chains(to(model), idle_timeout_seconds=0.5 if "hang" in fault else 30)
    call = made.call(stream=stream)
    if kind is None:
        await drain(await made.upstream.send(call))
        tries = 1
    elif stream and expected.after_deltas:
        answer = await made.upstream.send(call)
        with pytest.raises(kind):
            await drain(answer)
        tries = 1
    else:
        with pytest.raises(kind) as caught:
            await made.upstream.send(call)
        assert type(caught.value) is kind
        tries = 2 if failure_policy_of(caught.value).retry else 1
    assert simulator.count(model) == tries
    assert call.attempt_log.attempts == tries


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_temporary_fault_is_hidden_by_retry(
    chains: MakeChains, simulator: ProviderSimulator, stream: bool
) -> None:
    made = chains(to("sim-flaky-2"), retry={**QUICK, "max_attempts": 3})
    await drain(await made.send(stream=stream))
    assert simulator.count("sim-flaky-2") == 3


async def test_retry_waits_for_retry_after(chains: MakeChains, simulator: ProviderSimulator) -> None:
    made = chains(to("sim-rate-limited-0.3"))
    with pytest.raises(ProviderRateLimited):
        await made.send()
    first, second = simulator.requests("sim-rate-limited-0.3")
    assert second.started - first.started >= 0.29


async def test_retry_after_above_cap_is_not_awaited(chains: MakeChains, simulator: ProviderSimulator) -> None:
    async with responsive_time() as spent:
        with pytest.raises(ProviderRateLimited) as caught:
            await chains(to("sim-rate-limited-30")).send()
    assert caught.value.retry_after == 30  # the caller gets the time to wait
    assert simulator.count("sim-rate-limited-30") == 1
    assert spent.seconds < 2


async def test_retry_wait_never_passes_deadline(chains: MakeChains, simulator: ProviderSimulator) -> None:
    patient = {**QUICK, "retry_after_cap_seconds": 600}
    async with responsive_time() as spent:
        with pytest.raises(ProviderRateLimited):
            await chains(to("sim-rate-limited-50"), retry=patient).send(seconds=40)
    assert simulator.count("sim-rate-limited-50") == 1
    assert spent.seconds < 2


async def test_hanging_provider_is_cancelled_at_deadline(chains: MakeChains, simulator: ProviderSimulator) -> None:
    made = chains(to("sim-hang"), idle_timeout_seconds=30)
    began = time.monotonic()
    async with responsive_time() as spent:
        with pytest.raises(ProviderTimeout):
            await made.send(seconds=0.4)
        await simulator.wait_for_outcome("sim-hang", "client_closed")
    assert time.monotonic() - began >= 0.35
    assert spent.seconds < 0.6


@pytest.mark.parametrize(
    "down", ["sim-server-error", "sim-drop", "sim-quota", "sim-unauthorized", "sim-rate-limited-1", "sim-hang"]
)
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_second_route_serves_while_first_is_down(down: str, stream: bool, chains: MakeChains) -> None:
    made = chains(to(down), to("sim-ok", "two"), idle_timeout_seconds=0.5 if down == "sim-hang" else 30)
    call = made.call(stream=stream)
    answer = await made.upstream.send(call)
    await drain(answer)
    assert isinstance(answer, ChunkStream if stream else ModelResponse)
    assert call.attempt_log.route is not None
    assert (call.attempt_log.route.provider, call.attempt_log.route.upstream_model) == ("two", "sim-ok")


async def test_unreachable_provider_falls_back(simulator: ProviderSimulator, chains: MakeChains) -> None:
    """However long the backoff is, no wait is longer than the bound while another route can respond."""
    made = chains(
        to("sim-ok"),
        to("sim-ok@two", "two"),
        providers={"one": {"base_url": simulator.refused_url}},
        retry={"max_attempts": 2, "base_seconds": 600, "max_seconds": 600, "retry_after_max_seconds": 0.1},
    )
    call = made.call()
    async with responsive_time() as spent:
        assert isinstance(await made.upstream.send(call), ModelResponse)
    assert simulator.count("sim-ok@two") == 1
    assert call.attempt_log.attempts == 3
    assert spent.seconds < 5


async def test_invalid_request_does_not_fall_back(chains: MakeChains, simulator: ProviderSimulator) -> None:
    with pytest.raises(PlatformError) as caught:
        await chains(to("sim-content-filter"), to("sim-ok", "two")).send()
    assert caught.value.code == "content_filtered"
    assert simulator.count("sim-ok") == 0


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_context_length_falls_back_to_other_model(
    chains: MakeChains, simulator: ProviderSimulator, stream: bool
) -> None:
    """The same model at another provider would refuse the request too, so it is skipped."""
    made = chains(to("sim-context-length"), to("sim-context-length", "two"), to("sim-ok", "three"))
    call = made.call(stream=stream)
    await drain(await made.upstream.send(call))
    assert call.attempt_log.attempts == 2
    assert simulator.count("sim-context-length") == 1


async def test_context_length_on_all_models_is_raised(chains: MakeChains) -> None:
    with pytest.raises(PlatformError) as caught:
        await chains(to("sim-context-length@a"), to("sim-context-length@b", "two")).send()
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("model", ["sim-hang", "sim-slow-first-token-20000"])
async def test_stream_without_content_in_time_falls_back(
    model: str, chains: MakeChains, simulator: ProviderSimulator
) -> None:
    """The provider sends nothing at all, or only a head; in both cases it is not retried."""
    made = chains(to(model, first_token_seconds=0.3), to("sim-ok", "two"))
    call = made.call(stream=True)
    async with responsive_time() as spent:
        await drain(await made.upstream.send(call))
    assert call.attempt_log.route is not None
    assert (call.attempt_log.route.provider, call.attempt_log.attempts) == ("two", 2)
    assert simulator.count(model) == 1
    await simulator.wait_for_outcome(model, "client_closed")
    assert spent.seconds < 10


async def test_first_token_timeout_ignores_whole_responses(chains: MakeChains, simulator: ProviderSimulator) -> None:
    made = chains(to("sim-delay-600", first_token_seconds=0.1), to("sim-ok", "two"))
    assert isinstance(await made.send(), ModelResponse)
    assert simulator.count("sim-ok") == 0


async def test_all_routes_down_raises_shortest_retry_after(chains: MakeChains) -> None:
    made = chains(to("sim-server-error"), to("sim-rate-limited-7", "two"), to("sim-quota", "three"))
    with pytest.raises(ProviderRateLimited) as caught:
        await made.send()
    assert caught.value.retry_after == 7


async def test_weights_hold_within_5_percent_of_2000_calls(chains: MakeChains, simulator: ProviderSimulator) -> None:
    made = chains(to("sim-ok@a", weight=70), to("sim-ok@b", "two", weight=20), to("sim-ok@c", "three", weight=10))

    async def caller() -> None:
        for _ in range(100):
            await made.send()

    await asyncio.gather(*(caller() for _ in range(20)))
    shares = [simulator.count(f"sim-ok@{name}") / 2000 for name in "abc"]
    assert shares == [pytest.approx(share, abs=0.05) for share in (0.7, 0.2, 0.1)]


BREAKER = {"failure_ratio": 0.5, "minimum_calls": 5, "window_seconds": 60, "open_seconds": 0.3, "probes": 2}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The clock of the breakers in this test."""
    fake = FakeClock()
    monkeypatch.setattr(shared_state, "BreakerState", functools.partial(BreakerState, clock=fake))
    return fake


async def test_breaker_opens_and_closes_at_configured_counts(
    chains: MakeChains, simulator: ProviderSimulator, clock: FakeClock
) -> None:
    made = chains(to("sim-flaky-6"), breaker=BREAKER, retry=NO_RETRY)
    for _ in range(5):
        with pytest.raises(ProviderError):
            await made.send()
    for _ in range(10):
        with pytest.raises(BreakerOpen) as caught:
            await made.send()
        assert 0 < (caught.value.retry_after or 0) <= 0.3
    assert simulator.count("sim-flaky-6") == 5
    clock.advance(0.3)
    with pytest.raises(ProviderError):  # the probe gets the sixth failure, and the breaker is open again
        await made.send()
    with pytest.raises(BreakerOpen):
        await made.send()
    assert simulator.count("sim-flaky-6") == 6
    clock.advance(0.3)
    for _ in range(2):
        assert isinstance(await made.send(), ModelResponse)
    answers = await asyncio.gather(*(made.send() for _ in range(10)))  # closed: every call is admitted
    assert len(answers) == 10
    assert simulator.count("sim-flaky-6") == 18


async def test_half_open_breaker_admits_only_probes(
    chains: MakeChains, simulator: ProviderSimulator, clock: FakeClock
) -> None:
    made = chains(to("sim-drop"), breaker=BREAKER, retry=NO_RETRY)
    for _ in range(5):
        with pytest.raises(ProviderUnavailable):
            await made.send()
    clock.advance(0.3)
    results = await asyncio.gather(*(made.send() for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(result, BreakerOpen) for result in results) == 8
    assert simulator.count("sim-drop") == 7


@pytest.mark.usefixtures("clock")
async def test_failing_streams_open_breaker(chains: MakeChains, simulator: ProviderSimulator) -> None:
    made = chains(to("sim-stream-drop"), breaker=BREAKER)
    for _ in range(5):
        with pytest.raises(PlatformError):
            await drain(await made.send(stream=True))
    with pytest.raises(BreakerOpen):
        await made.send(stream=True)
    assert simulator.count("sim-stream-drop") == 5


@pytest.mark.usefixtures("clock")
async def test_disconnects_do_not_open_breaker(chains: MakeChains, simulator: ProviderSimulator) -> None:
    made = chains(to("sim-hang"), breaker=BREAKER)
    tasks = [asyncio.create_task(made.send()) for _ in range(10)]
    await until(lambda: simulator.count("sim-hang") == 10)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    streaming = asyncio.create_task(made.send())
    await until(lambda: simulator.count("sim-hang") == 11 or streaming.done())
    assert not streaming.done()
    streaming.cancel()
    await asyncio.wait([streaming])


CAPPED = {"one": {"max_concurrent": 2, "max_waiting": 4}}


async def test_concurrency_limit_and_queue_are_bounded(chains: MakeChains, simulator: ProviderSimulator) -> None:
    made = chains(to("sim-delay-100"), providers=CAPPED)
    results = await asyncio.gather(*(made.send() for _ in range(9)), return_exceptions=True)
    assert sum(isinstance(result, Overloaded) for result in results) == 3
    assert sum(isinstance(result, ModelResponse) for result in results) == 6
    assert most_at_once(simulator.requests("sim-delay-100")) == 2
    assert made.in_use("one") == (0, 0)


@pytest.mark.parametrize("moment", ["before the first token", "in the stream", "in a retry wait", "in the queue"])
async def test_disconnect_frees_limit_and_connection(
    moment: str, chains: MakeChains, simulator: ProviderSimulator
) -> None:
    model = {"before the first token": "sim-slow-first-token-30000", "in a retry wait": "sim-rate-limited-30"}.get(
        moment, "sim-slow-stream-1000"
    )
    made = chains(to(model), providers={"one": {"max_concurrent": 1}}, retry={**QUICK, "retry_after_cap_seconds": 600})
    held = await made.send(stream=True) if moment == "in the queue" else None
    got_chunk = asyncio.Event()

    async def read() -> None:
        answer = await made.send(stream=True)
        assert isinstance(answer, ChunkStream)
        try:
            async for _ in answer:
                got_chunk.set()
        finally:
            await answer.aclose()

    task = asyncio.create_task(read())
    await until(lambda: moment == "in the queue" or simulator.count(model) == 1)
    if moment == "in the stream":
        await got_chunk.wait()
    if moment == "in a retry wait":
        await simulator.wait_for_outcome(model, "completed")
        await until(lambda: made.in_use("one") == (0, 0))
    if moment == "in the queue":
        await until(lambda: made.in_use("one") == (1, 1))
    async with responsive_time() as spent:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert spent.seconds < 0.1
    assert made.in_use("one") == ((1, 0) if held else (0, 0))
    if moment in ("before the first token", "in the stream"):
        async with responsive_time() as spent:
            await simulator.wait_for_outcome(model, "client_closed")
        assert spent.seconds < 0.2
    if isinstance(held, ChunkStream):
        await held.aclose()
        assert made.in_use("one") == (0, 0)
    assert simulator.count(model) == 1
