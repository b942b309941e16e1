import pytest

from platform_app.errors import PlatformError, ProviderUnavailable
from platform_app.llm.policies.failure_metrics import FailureMetrics
from platform_app.llm.requests import ModelCall
from tests.support.fakes.core import Count
from tests.support.fakes.upstreams import RESPONSE, ScriptedUpstream, a_call
from tests.support.timing.virtual_time import virtual_time


@virtual_time
async def test_failures_are_counted_by_error_code() -> None:
    count = Count("platform_model_call_failures_total", model="public", code="provider_unavailable")
    counted = FailureMetrics(ScriptedUpstream(RESPONSE, ProviderUnavailable("x")), "public")
    assert await counted.send(a_call()) is RESPONSE
    assert count.grown == 0
    with pytest.raises(ProviderUnavailable):
        await counted.send(a_call())
    assert count.grown == 1


def failing(attempts: int, error: PlatformError) -> tuple[FailureMetrics, ModelCall]:
    call = a_call()
    call.attempt_log.attempts = attempts - 1  # one is sent now
    return FailureMetrics(ScriptedUpstream(error), "public"), call


@pytest.mark.parametrize(
    ("attempts", "tries", "asked", "may_retry"),
    [
        (0, 0, 5.0, True),  # a breaker is open: nothing was sent
        (1, 1, None, True),  # one attempt is what the client would have had without a gateway
        (1, 1, 7.0, True),
        (2, 2, None, False),  # retried
        (2, 2, 0.05, False),  # retried after the provider's Retry-After
        (3, 3, 0.05, False),
        (2, 1, None, False),  # every route was tried
        (2, 1, 30.0, True),  # a Retry-After too long to wait for here: a retry after it is the first
    ],
)
@virtual_time
async def test_used_up_retries_discourage_client_retry(
    attempts: int, tries: int, asked: float | None, may_retry: bool
) -> None:
    """Kind 11: otherwise a client's three attempts become nine."""
    error = ProviderUnavailable("x", retry_after=asked)
    error.tries = tries
    counted, call = failing(attempts, error)
    with pytest.raises(ProviderUnavailable):
        await counted.send(call)
    assert error.should_retry is may_retry
    assert error.wait_seconds == ((1.0 if asked is None else asked) if may_retry else None)
