"""The intents and the record of a call, its times, its cost and its counters."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from structlog.testing import capture_logs

from platform_app import metering
from platform_app.config import PriceConfig
from platform_app.errors import ProviderError
from platform_app.ledger.events.usage_record import MAX_COST_MICROUSD, MAX_TOKENS
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.models.route import Route
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.usage.counts import TokenUsage
from tests.support.fakes.chat_service import ROUTE
from tests.support.fakes.core import CREATED, Count
from tests.support.fakes.metered_call import MeteredCall

Metered = Callable[..., MeteredCall]
FREE = Route("free", "sim2", "up-free")
"""A route without a known price."""
USAGE = {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100}


@pytest.fixture
def metered(monkeypatch: pytest.MonkeyPatch) -> Metered:
    return lambda **how: MeteredCall(monkeypatch, **how)


def response(usage: object = USAGE) -> ModelResponse:
    return ModelResponse(b"", {"choices": [{"message": {"role": "assistant", "content": "x" * 35}}], "usage": usage})


class Rest:
    """The chunks after the first: none."""

    async def __anext__(self) -> ChatChunk:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Nothing is open."""


def stream_of(usage: object = USAGE) -> ChunkStream:
    return ChunkStream(ChatChunk(b"", {"choices": [{"delta": {"content": "x" * 35}}], "usage": usage}), Rest())


def test_intent_is_what_the_call_may_use(metered: Metered) -> None:
    call = metered(estimate=TokenUsage(MAX_TOKENS + 1, MAX_TOKENS + 1), stream=True)
    call.clock.advance(0.25)
    call.attempt()
    [(intent, settlement)] = call.ledger.intents
    assert (intent.prompt_tokens, intent.completion_tokens, intent.cached_tokens) == (MAX_TOKENS, MAX_TOKENS, 0)
    assert (intent.cost_microusd, intent.estimated, intent.outcome) == (5 * MAX_TOKENS, True, "interrupted")
    assert (intent.duration_ms, intent.first_token_ms, intent.attempts) == (250.0, None, 1)
    assert (intent.stream, intent.session, settlement) == (True, "s-1", ())


def test_estimate_below_the_bound_is_kept(metered: Metered) -> None:
    call = metered(estimate=TokenUsage(7, 3))
    call.attempt()
    [(intent, _)] = call.ledger.intents
    assert (intent.prompt_tokens, intent.completion_tokens, intent.cost_microusd) == (7, 3, 7 + 12)


def test_next_attempt_replaces_the_intent(metered: Metered) -> None:
    """All records of a call have the same event id and time, so that only one is stored."""
    call = metered()
    call.attempt(upstream_id="first")
    call.attempt(FREE, upstream_id="second")
    call.meter.complete(response())
    first, second = (intent for intent, _ in call.ledger.intents)
    assert (first.provider, second.provider, call.record.provider) == ("sim", "sim2", "sim2")
    assert (first.attempts, second.attempts, call.record.attempts) == (1, 2, 2)
    assert {each.event_id for each in (first, second)} == {call.record.event_id}
    times = {each.occurred_at for each in (first, second, call.record)}
    assert times == {CREATED + timedelta(minutes=1)}, "the time of the first attempt"
    assert (first.upstream_request_id, second.upstream_request_id) == (None, None)
    assert (call.record.upstream_request_id, call.ledger.open_intents) == ("second", 0)


def test_end_is_recorded_in_place_of_the_intent(metered: Metered) -> None:
    call = metered()
    call.clock.advance(1)
    call.attempt(upstream_id="up-1")
    call.clock.advance(0.2345678)
    call.meter.complete(response({**USAGE, "prompt_tokens_details": {"cached_tokens": 40}}))
    [(intent, _)] = call.ledger.intents
    assert call.record == replace(
        intent, prompt_tokens=90, completion_tokens=10, cached_tokens=40, estimated=False, cost_microusd=50 + 20 + 40,
        duration_ms=1234.568, outcome="ok", upstream_request_id="up-1", provider_usage=call.record.provider_usage,
    )  # fmt: skip
    assert json.loads(call.record.provider_usage or "") == {**USAGE, "prompt_tokens_details": {"cached_tokens": 40}}


def test_response_without_counts_has_no_provider_usage(metered: Metered) -> None:
    call = metered()
    call.attempt()
    assert call.meter.complete(response(None)) is None
    assert (call.charged, call.record.provider_usage) == ((100, 10, True), None)


async def test_first_token_is_timed(metered: Metered) -> None:
    call = metered(stream=True)
    call.attempt()
    call.clock.advance(0.1234567)
    stream = stream_of()
    call.meter.follow(stream)
    call.clock.advance(1)
    async for _ in stream:
        pass
    assert (call.record.first_token_ms, call.record.duration_ms) == (123.457, 1123.457)
    assert (call.charged, stream.usage) == ((90, 10, False), TokenUsage(90, 10, 100))


def test_response_without_stream_has_no_first_token(metered: Metered) -> None:
    call = metered()
    call.attempt()
    call.clock.advance(1)
    call.meter.complete(response())
    assert call.record.first_token_ms is None


def test_meter_lets_go_of_the_call(metered: Metered) -> None:
    """A reference cycle would keep the body until a garbage collection."""
    call = metered()
    call.attempt()
    assert call.log.before_attempt is not None
    call.meter.complete(response())
    assert call.log.before_attempt is None


def test_write_of_the_record_is_a_hop(metered: Metered, monkeypatch: pytest.MonkeyPatch) -> None:
    call = metered()
    call.attempt()
    monkeypatch.setattr(call.ledger, "append", lambda _: call.clock.advance(0.5))
    call.meter.complete(response())
    assert call.log.record.hops == [("ledger", 1000.0, 1000.5, "ok")]


def test_last_attempt_notes_what_it_was_charged(metered: Metered) -> None:
    call = metered()
    call.attempt(outcome="provider_error")
    call.attempt()
    call.meter.complete(response())
    first, last = call.log.record.attempts
    assert (first.usage, first.cost_microusd) == (None, None)
    assert (last.usage, last.cost_microusd) == (TokenUsage(90, 10, 100), 90 + 40)


PRICES = {
    "cheap": PriceConfig(input_usd_per_million=Decimal(1), output_usd_per_million=Decimal(2)),
    "dear": PriceConfig(input_usd_per_million=Decimal(10**6), output_usd_per_million=Decimal(10**6)),
}
ASSUMED = {"cheap": 90 + 20, "dear": 100 * 10**6}


@pytest.mark.parametrize(
    ("usage", "cost", "charged"),
    [
        (USAGE, None, (100, None, ASSUMED)),
        ({**USAGE, "cost": 0.0002}, 200, (100, 200, None)),
        ({**USAGE, "cost": 1.0}, 1_000_000, (100, 1_000_000, None)),  # a cent for each token
        ({**USAGE, "cost": 1.001}, None, (100, None, ASSUMED)),
    ],
)
def test_unpriced_route_costs_what_its_provider_states(
    metered: Metered, usage: object, cost: int | None, charged: tuple[Any, ...]
) -> None:
    """Without a statement, the rules assume their own prices."""
    call = metered(assumed=PRICES)
    call.attempt(FREE)
    assert call.ledger.intents[0][0].cost_microusd is None
    call.meter.complete(response(usage))
    assert (call.record.cost_microusd, call.admission.with_) == (cost, [charged])


def test_stated_cost_is_ignored_beside_a_price(metered: Metered) -> None:
    call = metered(assumed=PRICES)
    call.attempt()
    call.meter.complete(response({**USAGE, "cost": 0.0002}))
    assert call.admission.with_ == [(100, 90 + 40, None)]


def test_stated_cost_of_refused_counts_is_ignored(metered: Metered) -> None:
    call = metered()
    call.attempt(FREE)
    assert call.meter.complete(response({**USAGE, "prompt_tokens": 10**8, "cost": 0.0002})) is None
    assert (call.charged, call.record.cost_microusd) == ((100, 10, True), None)


def test_failure_of_an_unpriced_route_costs_what_rules_assume(metered: Metered) -> None:
    call = metered(assumed=PRICES)
    call.attempt(FREE, outcome="provider_error")
    call.meter.end(ProviderError("failed"))
    assert call.admission.with_ == [(0, None, {"cheap": 0, "dear": 0})]


@pytest.mark.parametrize("failed", [False, True])
def test_unpriced_route_counts_nothing_in_rules_without_a_price(metered: Metered, failed: bool) -> None:
    """Not what was reserved at the price of the model's other route: the usage record has no cost either."""
    call = metered()
    call.attempt(FREE, outcome="provider_error" if failed else "ok")
    if failed:
        call.meter.end(ProviderError("failed"))
    else:
        call.meter.complete(response(USAGE))
    assert call.admission.with_ == [(0 if failed else 100, None, {})]


def test_assumed_costs_have_the_bound_of_a_record() -> None:
    assert metering.assumed_costs(PRICES, TokenUsage(2_000_000)) == {"cheap": 2_000_000, "dear": MAX_COST_MICROUSD}


def test_tokens_are_counted_by_direction(metered: Metered) -> None:
    labels = {"provider": "sim", "model": "big"}
    counters = [
        Count("platform_provider_tokens_total", **labels, direction="input"),
        Count("platform_provider_tokens_total", **labels, direction="output"),
        Count("platform_cached_input_tokens_total", **labels),
    ]
    call = metered()
    call.attempt()
    call.meter.complete(response({**USAGE, "prompt_tokens_details": {"cached_tokens": 40}}))
    assert [counter.grown for counter in counters] == [90, 10, 40]


def test_refused_counts_are_logged_once_a_minute(metered: Metered) -> None:
    """Each route has its own minute, and the counter counts every refusal. The machine may have just started."""
    metering._refused_logged.clear()
    counter = Count("platform_provider_usage_refused_total", provider="sim", model="big")
    logged = []
    for now, route in ((0.0, ROUTE), (30.0, FREE), (59.5, ROUTE), (60.0, ROUTE), (119.5, ROUTE), (120.5, ROUTE)):
        call = metered()
        call.clock.now = now
        call.attempt(route)
        with capture_logs() as logs:
            call.meter.complete(response({**USAGE, "prompt_tokens": 10**8}))
        logged += [(now, line["provider"]) for line in logs if line["event"] == "provider_usage_refused"]
    assert logged == [(0.0, "sim"), (30.0, "sim2"), (60.0, "sim"), (120.5, "sim")]
    assert counter.grown == 5
