"""What a call is charged that ends without a response. Its prompt is estimated at 100 tokens, its output at 20."""

import asyncio
from collections.abc import Callable

import pytest

from platform_app.errors import ProviderError, ProviderTimeout, ProviderUnavailable
from platform_app.ledger.events.usage_record import MAX_TOKENS
from platform_app.llm.models.route import Route
from platform_app.llm.requests import Operation
from platform_app.llm.usage.counts import TokenUsage
from platform_app.llm.usage.pricing import FlatPrice
from tests.support.fakes.chat_service import ROUTE
from tests.support.fakes.metered_call import MeteredCall

Metered = Callable[..., MeteredCall]
LEFT = asyncio.CancelledError()
ABANDONED = [LEFT, GeneratorExit(), ProviderTimeout("late")]
OTHER = Route("other", "sim2", "up-other", price=FlatPrice(10.0, 10.0, 10.0, 10.0, 10.0))


@pytest.fixture
def metered(monkeypatch: pytest.MonkeyPatch) -> Metered:
    return lambda **how: MeteredCall(monkeypatch, **how)


@pytest.mark.parametrize("error", [*ABANDONED, ProviderError("failed"), RuntimeError("a bug")], ids=repr)
def test_call_that_the_provider_processed_is_charged(metered: Metered, error: BaseException) -> None:
    call = metered()
    call.attempt(outcome="provider_timeout")
    call.meter.end(error)
    assert call.charged == (100, 20, True)
    assert call.admission.with_ == [(120, 100 + 4 * 20, None)]


def test_embeddings_without_response_have_no_output(metered: Metered) -> None:
    call = metered(operation=Operation.EMBEDDINGS)
    call.attempt(outcome="provider_timeout")
    call.meter.end(ProviderTimeout("late"))
    assert call.charged == (100, 0, True)


def test_every_attempt_that_was_processed_is_charged(metered: Metered) -> None:
    call = metered()
    call.attempt(outcome="provider_timeout")
    call.attempt(outcome="provider_error")
    call.attempt(outcome="provider_bad_response")
    call.meter.end(ProviderError("failed"))
    assert (call.charged, call.record.attempts) == ((200, 40, True), 3)


@pytest.mark.parametrize("estimate", [TokenUsage(MAX_TOKENS, 20), TokenUsage(MAX_TOKENS + 1, 20)])
def test_charged_prompts_fit_into_a_record(metered: Metered, estimate: TokenUsage) -> None:
    call = metered(estimate=estimate)
    call.attempt(outcome="provider_timeout")
    call.attempt(outcome="provider_timeout")
    call.meter.end(ProviderTimeout("late"))
    assert call.charged == (MAX_TOKENS, 40, True)


@pytest.mark.parametrize("received", [200 * MAX_TOKENS, 200 * MAX_TOKENS + 200])
def test_charged_output_fits_into_a_record(metered: Metered, received: int) -> None:
    call = metered(estimate=TokenUsage(100, MAX_TOKENS + 1))
    call.attempt(outcome="provider_timeout", stream=True, received=received)
    call.attempt(outcome="provider_timeout", stream=True, received=200)
    call.meter.end(ProviderTimeout("late"))
    assert call.charged == (200, MAX_TOKENS, True)


@pytest.mark.parametrize("error", ABANDONED, ids=repr)
def test_abandoned_call_is_charged_its_prompt(metered: Metered, error: BaseException) -> None:
    """No attempt is billed by its outcome, but the provider may have read the prompt of one."""
    call = metered()
    call.attempt(outcome="provider_error", sent=False)
    call.attempt(outcome="provider_error", sent=True)
    call.meter.end(error)
    assert call.charged == (100, 0, True)
    assert call.admission.with_ == [(100, 100, None)]


@pytest.mark.parametrize("error", ABANDONED, ids=repr)
def test_call_abandoned_before_its_first_outcome_is_charged(metered: Metered, error: BaseException) -> None:
    call = metered()
    call.log.attempt(ROUTE)
    call.meter.end(error)
    assert call.charged == (100, 0, True)


@pytest.mark.parametrize("error", ABANDONED, ids=repr)
def test_call_whose_request_was_not_sent_costs_nothing(metered: Metered, error: BaseException) -> None:
    call = metered()
    call.attempt(outcome="provider_timeout", sent=False)
    call.meter.end(error)
    assert call.charged == (0, 0, False)
    assert call.admission.with_ == [(0, 0, None)]


def test_refused_call_costs_nothing(metered: Metered) -> None:
    call = metered()
    call.attempt(outcome="provider_error")
    call.meter.end(ProviderError("failed"))
    assert (call.charged, call.record.cost_microusd) == ((0, 0, False), 0)


def test_call_without_an_attempt_is_released(metered: Metered) -> None:
    call = metered()
    call.log.route = ROUTE
    call.meter.end(LEFT)
    assert (call.admission.with_, call.ledger.events, call.ledger.intents) == ([None], [], [])


def test_record_names_the_last_route_that_was_called(metered: Metered) -> None:
    """The next route failed before its request was sent, for example because it has no credential."""
    call = metered()
    call.attempt(outcome="provider_timeout")
    call.log.route = OTHER
    call.meter.end(ProviderUnavailable("no credential"))
    record = call.record
    assert (record.provider, record.model, record.upstream_model) == (ROUTE.provider, "big", "up-big")
    assert (record.cost_microusd, record.outcome) == (100 + 4 * 20, "provider_unavailable")


def test_fallback_is_charged_at_its_own_price(metered: Metered) -> None:
    call = metered()
    call.attempt(outcome="provider_error")
    call.attempt(OTHER, outcome="provider_timeout")
    call.meter.end(ProviderTimeout("late"))
    record = call.record
    assert (record.provider, record.model, record.upstream_model) == ("sim2", "other", "up-other")
    assert record.cost_microusd == 120 * 10
