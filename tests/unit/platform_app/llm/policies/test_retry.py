import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from platform_app.config import RetryConfig
from platform_app.errors import (
    PlatformError,
    ProviderAuthFailed,
    ProviderError,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRejectedRequest,
    ProviderTimeout,
    ProviderUnavailable,
)
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.errors import MAX_RETRY_AFTER_SECONDS, BreakerOpen
from platform_app.llm.interfaces import UpstreamResponse
from platform_app.llm.policies.retry import Retry
from platform_app.llm.requests import ModelCall
from tests.support.fakes.core import Count
from tests.support.fakes.upstreams import RESPONSE, ScriptedUpstream, a_call, a_route, a_stream
from tests.support.timing.virtual_time import now, virtual_time

POLICY = RetryConfig(max_attempts=3, base_seconds=1.0, max_seconds=4.0)


def retry(
    upstream: ScriptedUpstream,
    policy: RetryConfig = POLICY,
    max_wait: float | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Retry:
    return Retry(upstream, a_route(), policy, max_wait, sleep)


@virtual_time
async def test_success_is_sent_once() -> None:
    upstream = ScriptedUpstream(RESPONSE)
    assert await retry(upstream).send(a_call()) is RESPONSE
    assert upstream.calls == 1


@virtual_time
async def test_temporary_failure_is_hidden() -> None:
    upstream, count = (
        ScriptedUpstream(ProviderError("x"), ProviderError("x"), RESPONSE),
        Count("platform_provider_retries_total", provider="alpha", reason="provider_error"),
    )
    with capture_logs() as lines:
        assert await retry(upstream).send(a_call()) is RESPONSE
    assert upstream.calls == 3
    assert count.grown == 2
    assert [(line["event"], line["attempt"]) for line in lines] == [("provider_retry", 2), ("provider_retry", 3)]
    assert lines[0]["provider"] == "alpha"
    assert lines[0]["reason"] == "provider_error"


@virtual_time
async def test_last_error_is_raised_after_all_attempts() -> None:
    last = ProviderUnavailable("third")
    upstream = ScriptedUpstream(ProviderError("first"), ProviderError("second"), last)
    with pytest.raises(ProviderUnavailable) as caught:
        await retry(upstream).send(a_call())
    assert caught.value is last
    assert upstream.calls == 3


@virtual_time
async def test_one_attempt_means_no_retry() -> None:
    upstream = ScriptedUpstream(ProviderError("x"))
    with pytest.raises(ProviderError):
        await retry(upstream, RetryConfig(max_attempts=1)).send(a_call())
    assert upstream.calls == 1


@pytest.mark.parametrize(
    "error",
    [
        ProviderQuotaExhausted("x"),
        ProviderAuthFailed("x"),
        ProviderRejectedRequest("x"),
        ProviderTimeout("x"),
        BreakerOpen("x", retry_after=1),
        KeyError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
@virtual_time
async def test_permanent_error_is_raised_at_once(error: Exception) -> None:
    upstream, began = ScriptedUpstream(error), now()
    with pytest.raises(type(error)) as caught:
        await retry(upstream).send(a_call())
    assert caught.value is error
    assert (upstream.calls, now() - began) == (1, 0)


@virtual_time
async def test_permanent_error_after_temporary_is_raised() -> None:
    upstream = ScriptedUpstream(ProviderError("x"), ProviderQuotaExhausted("x"))
    with pytest.raises(ProviderQuotaExhausted):
        await retry(upstream).send(a_call())
    assert upstream.calls == 2


@virtual_time
async def test_backoff_grows_is_random_and_capped() -> None:
    waits: list[list[float]] = []
    for _ in range(50):
        upstream = ScriptedUpstream(ProviderError("x"))
        with pytest.raises(ProviderError):
            await retry(upstream, RetryConfig(max_attempts=5, base_seconds=1.0, max_seconds=4.0)).send(a_call())
        waits.append([b - a for a, b in zip(upstream.sent_at, upstream.sent_at[1:], strict=False)])
    for number, most in enumerate((1.0, 2.0, 4.0, 4.0)):
        drawn = [each[number] for each in waits]
        assert max(drawn) <= most + 1e-6
        assert max(drawn) > most * 0.6  # 50 draws below it all: 1 in 10^11
        assert len(set(drawn)) > 40


@virtual_time
async def test_retry_waits_for_retry_after_plus_jitter() -> None:
    upstream = ScriptedUpstream(ProviderRateLimited("x", retry_after=7), RESPONSE)
    assert await retry(upstream).send(a_call()) is RESPONSE
    assert 7 <= upstream.sent_at[1] - upstream.sent_at[0] <= 8 + 1e-6


@virtual_time
async def test_retry_after_above_cap_is_not_retried() -> None:
    upstream, began = ScriptedUpstream(ProviderRateLimited("x", retry_after=11)), now()
    with pytest.raises(ProviderRateLimited):
        await retry(upstream).send(a_call())
    assert (upstream.calls, now() - began) == (1, 0)


@pytest.mark.parametrize(("asked", "calls"), [(59, 2), (60, 1)])
@virtual_time
async def test_retry_after_that_was_cut_is_not_retried(asked: float, calls: int) -> None:
    """A provider's Retry-After of an hour arrives here as MAX_RETRY_AFTER_SECONDS, whatever the policy allows."""
    assert MAX_RETRY_AFTER_SECONDS == 60
    upstream = ScriptedUpstream(ProviderRateLimited("x", retry_after=asked))
    with pytest.raises(ProviderRateLimited):
        await retry(upstream, RetryConfig(max_attempts=2, retry_after_cap_seconds=600)).send(a_call(600))
    assert upstream.calls == calls


LONG_WAITS = RetryConfig(max_attempts=5, base_seconds=600, max_seconds=600)


@virtual_time
async def test_backoff_is_bounded_with_another_route() -> None:
    for _ in range(20):
        upstream = ScriptedUpstream(ProviderUnavailable("refused"))
        with pytest.raises(ProviderUnavailable):
            await retry(upstream, LONG_WAITS, max_wait=3.0).send(a_call(60))
        waits = [b - a for a, b in zip(upstream.sent_at, upstream.sent_at[1:], strict=False)]
        assert len(waits) == 4  # no wait was so long that it would have passed the deadline
        assert max(waits) <= 3.0 + 1e-6


@pytest.mark.parametrize(("asked", "calls"), [(0.5, 2), (3.0, 2), (3.1, 1), (60, 1)])
@virtual_time
async def test_retry_after_is_bounded_with_another_route(asked: float, calls: int) -> None:
    """A short Retry-After is awaited, jitter included in the bound; a longer one leaves the request to the next
    route."""
    upstream, began = ScriptedUpstream(ProviderRateLimited("x", retry_after=asked)), now()
    with pytest.raises(ProviderRateLimited):
        await retry(upstream, RetryConfig(max_attempts=2), max_wait=3.0).send(a_call())
    assert upstream.calls == calls
    assert (asked if calls == 2 else 0) - 1e-6 <= now() - began <= (3.0 + 1e-6 if calls == 2 else 0)


@virtual_time
async def test_wait_beyond_deadline_is_not_begun() -> None:
    error = ProviderRateLimited("x", retry_after=5)
    upstream, began = ScriptedUpstream(error), now()
    with pytest.raises(ProviderRateLimited) as caught:
        await retry(upstream).send(a_call(4.0))
    assert caught.value is error
    assert (upstream.calls, now() - began) == (1, 0)


@virtual_time
async def test_wait_that_ends_at_the_deadline_is_not_begun() -> None:
    """The wait is exactly as long as the bound, since the jitter comes on top of it."""
    upstream, began = ScriptedUpstream(ProviderRateLimited("x", retry_after=3.0)), now()
    with pytest.raises(ProviderRateLimited):
        await retry(upstream, max_wait=3.0).send(a_call(3.0))
    assert (upstream.calls, now() - began) == (1, 0)


@virtual_time
async def test_error_without_retry_after_is_retried_with_any_bound() -> None:
    """The bound may be 0: then every retry follows at once."""
    upstream, began = ScriptedUpstream(ProviderError("x"), RESPONSE), now()
    assert await retry(upstream, max_wait=0.0).send(a_call()) is RESPONSE
    assert (upstream.calls, now() - began) == (2, 0)


class Refusing(ScriptedUpstream):
    """Raises its steps without sending, like a full queue or an open breaker."""

    async def send(self, call: ModelCall) -> UpstreamResponse:
        try:
            return await super().send(call)
        finally:
            call.attempt_log.attempts -= 1


@virtual_time
async def test_record_shows_a_call_that_was_not_sent() -> None:
    call = a_call()
    with pytest.raises(BreakerOpen):
        await retry(Refusing(BreakerOpen("x"))).send(call)
    [made] = call.attempt_log.record.attempts
    assert (made.provider, made.model, made.upstream_model) == ("alpha", "public", "large")
    assert (made.operation, made.stream, made.request_sent) == ("chat", False, False)
    assert made.outcome == "breaker_open"
    assert made.ended == made.started


@virtual_time
async def test_record_of_a_sent_call_is_left_to_the_route() -> None:
    call = a_call()
    with pytest.raises(ProviderTimeout):
        await retry(ScriptedUpstream(ProviderTimeout("x"))).send(call)
    assert call.attempt_log.record.attempts == []


@virtual_time
async def test_deadline_covers_all_attempts() -> None:
    upstream = ScriptedUpstream(ProviderRateLimited("x", retry_after=5))
    with pytest.raises(ProviderRateLimited):
        await retry(upstream, RetryConfig(max_attempts=10, base_seconds=0.01, max_seconds=0.01)).send(a_call(11.0))
    assert upstream.calls == 3


@virtual_time
async def test_cancellation_during_wait_ends_at_once() -> None:
    upstream = ScriptedUpstream(ProviderRateLimited("x", retry_after=8))
    task = asyncio.create_task(retry(upstream).send(a_call()))
    await asyncio.sleep(1.0)
    began = now()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (upstream.calls, now()) == (1, began)


@virtual_time
async def test_cancellation_during_retry_ends_at_once() -> None:
    upstream = ScriptedUpstream(ProviderError("x"), 100.0, RESPONSE)
    task = asyncio.create_task(retry(upstream).send(a_call(500)))
    await asyncio.sleep(10.0)
    assert upstream.running == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert upstream.calls == 2
    assert upstream.running == 0


@virtual_time
async def test_failure_after_first_chunk_is_not_retried() -> None:
    error = ProviderError("broke off")
    upstream = ScriptedUpstream(a_stream(error))
    stream = await retry(upstream).send(a_call())
    assert isinstance(stream, ChunkStream)
    with pytest.raises(PlatformError) as caught:
        async for _ in stream:
            pass
    assert caught.value is error
    assert upstream.calls == 1
