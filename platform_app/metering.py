"""Settle what a call used with the limiter, count it, and record it in the ledger, however the call ends."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from platform_app.auth.caller import Caller
from platform_app.config import PriceConfig
from platform_app.errors import ProviderTimeout
from platform_app.ledger.events.usage_record import INTERRUPTED, MAX_COST_MICROUSD, MAX_TOKENS, UsageRecord
from platform_app.ledger.interfaces import Intent, Ledger
from platform_app.llm.chunk_stream import ChunkStream, StreamObserver
from platform_app.llm.models.route import Route
from platform_app.llm.requests import ModelCall, Operation
from platform_app.llm.responses import ModelResponse
from platform_app.llm.usage.counts import TokenUsage, kept_usage, stated_microusd
from platform_app.llm.usage.pricing import configured_price
from platform_app.llm.usage.settlement import CallFacts, SettledUsage, settle_usage
from platform_app.llm.usage.token_estimate import usual_output_tokens
from platform_app.llm.usage.unread_attempts import unread_usage
from platform_app.observability import ids, metrics
from platform_app.observability.context import RequestContext
from platform_app.observability.logging import get_logger
from platform_app.observability.record import LEDGER, OK
from platform_app.observability.request.provider_call import outcome_of
from platform_app.rate_limit.limiter import Admission

REFUSED_LOG_SECONDS = 60.0
"""At most one log line per route in this time; the counter counts every refusal."""
_NOTHING = SettledUsage(TokenUsage(), estimated=False)
_refused_logged: "dict[tuple[str, str], float]" = {}

_log = get_logger("metering")


class _SentAttempt(NamedTuple):
    """The last attempt that was sent."""

    record: UsageRecord
    """As it was written with the intent."""
    route: Route
    intent: Intent


class CallMeter:
    """Meters one admitted call. Exactly one of `complete`, `end` and the end of a followed stream closes it.

    A call that reached no provider is not recorded, and its reservation is released.
    """

    def __init__(
        self,
        call: ModelCall,
        caller: Caller,
        context: RequestContext,
        admission: Admission,
        ledger: Ledger,
        estimate: TokenUsage,
        assumed_prices: Mapping[str, PriceConfig],
        default_output_tokens: int,
    ) -> None:
        """
        Args:
            call: the call to the provider.
            caller: the key and owner that are charged.
            context: the request.
            admission: the reservation.
            ledger: where the call is recorded.
            estimate: the tokens that the call may use; they are recorded and charged if this process dies first.
            assumed_prices: by rule name, the price that the rule assumes for a model without a known price.
            default_output_tokens: the usual output of a whole response, for calls whose response was not read.
        """
        self._call = call
        self._caller = caller
        self._context = context
        self._admission = admission
        self._ledger = ledger
        self._assumed_prices = assumed_prices
        self._default_output_tokens = default_output_tokens
        self._estimate = _stored(estimate)
        self._event_id = ids.trace_id()
        self._sent: _SentAttempt | None = None
        self._started = time.perf_counter()
        self._first_token_ms: float | None = None
        call.attempt_log.before_attempt = self._intend

    def complete(self, response: ModelResponse) -> TokenUsage | None:
        """Close the call with its whole response. Return the provider's counts, or None if they are not plausible."""
        reported = response.reported
        raw, counts = (None, None) if reported is None else reported
        settled = settle_usage(counts, self._facts(response.characters))
        self._close(settled, raw, None)
        return None if settled.estimated else settled.usage

    def follow(self, stream: ChunkStream) -> None:
        """Close the call when the stream ends. The stream's `usage` then has the provider's counts, or None if they are
        not plausible."""
        self._first_token_ms = self._duration_ms()

        def ended(error: BaseException | None) -> None:
            facts = self._facts(stream.characters, complete=stream.counted_all(error))
            settled = settle_usage(stream.usage, facts)
            stream.usage = None if settled.estimated else settled.usage
            self._close(settled, stream.provider_usage, error)

        stream.on_end(StreamObserver.METERING, ended)

    def end(self, error: BaseException) -> None:
        """Close the call without a response. What its attempts may have cost at the provider is estimated.

        After a disconnect or a timeout the prompt is charged at least once, unless no request was sent.
        """
        usage = self._unread_usage()
        abandoned = not isinstance(error, Exception) or isinstance(error, ProviderTimeout)
        if usage is None and abandoned and self._may_have_been_read():
            usage = TokenUsage(self._estimate.prompt_tokens)
        self._close(_NOTHING if usage is None else SettledUsage(usage, True), None, error)

    def _may_have_been_read(self) -> bool:
        attempts = self._call.attempt_log.record.attempts
        return not attempts or any(attempt.request_sent for attempt in attempts)

    def _unread_usage(self) -> TokenUsage | None:
        call, estimate = self._call, self._estimate
        generates = call.operation is Operation.CHAT
        usual = usual_output_tokens(call.body, self._default_output_tokens) if generates else 0
        attempts = call.attempt_log.record.attempts
        usage = unread_usage(attempts, estimate.prompt_tokens, estimate.completion_tokens, usual)
        return None if usage is None else _stored(usage)

    def _facts(self, characters: int, *, complete: bool = True) -> CallFacts:
        call = self._call
        return CallFacts(
            call.body, self._estimate.prompt_tokens, call.operation is Operation.CHAT, characters, complete, call.format
        )  # fmt: skip

    def _close(self, settled: SettledUsage, raw: Mapping[str, Any] | None, error: BaseException | None) -> None:
        attempt_log = self._call.attempt_log
        attempt_log.before_attempt = None  # a reference cycle would keep the body until a garbage collection
        if self._sent is None:
            self._admission.release()
            return
        record, route, intent = self._sent
        usage = settled.usage
        cost = _cost(route, usage)
        if cost is None and raw is not None and not settled.refused:
            cost = stated_microusd(raw, usage.total_tokens)
        # In this order: if the process dies in between, the process that finds the intent also finds the end in the
        # spool. Nothing else runs between the first and the last of these steps.
        self._finish(record, settled, cost, raw, outcome_of(error))
        began = time.perf_counter()
        self._ledger.append(record)
        attempt_log.record.hops.append((LEDGER, began, time.perf_counter(), OK))
        self._note_attempt(usage, cost)
        assumed = assumed_costs(self._assumed_prices, usage) if cost is None else None
        self._admission.settle(usage.prompt_tokens + usage.completion_tokens, cost, assumed)
        intent.end()
        for direction, count in (("input", usage.prompt_tokens), ("output", usage.completion_tokens)):
            metrics.PROVIDER_TOKENS.labels(route.provider, route.public_model, direction).inc(count)
        if usage.cached_tokens:
            metrics.CACHED_INPUT_TOKENS.labels(route.provider, route.public_model).inc(usage.cached_tokens)
        if settled.refused:
            _report_refused(route, raw)

    def _note_attempt(self, usage: TokenUsage, cost: int | None) -> None:
        """Note what was charged with the attempt that it was charged for."""
        if (attempt := self._call.attempt_log.record.last_sent) is not None:
            attempt.usage, attempt.cost_microusd = usage, cost

    def _intend(self, route: Route) -> None:
        """Write an intent with the estimated cost, before the call is sent."""
        earlier = self._sent
        record = self._record(route, datetime.now(UTC) if earlier is None else earlier.record.occurred_at)
        settlement = self._admission.settlement()
        if earlier is None:
            self._sent = _SentAttempt(record, route, self._ledger.intend(record, settlement))
        else:
            self._sent = _SentAttempt(record, route, earlier.intent)
            earlier.intent.update(record, settlement)

    def _record(self, route: Route, occurred_at: datetime) -> UsageRecord:
        """Return the record of a call that is sent now, in case that this process dies before the call ends."""
        context, caller, estimate = self._context, self._caller, self._estimate
        return UsageRecord(
            event_id=self._event_id,
            occurred_at=occurred_at,
            request_id=context.request_id,
            trace_id=context.trace.trace_id,
            key_id=caller.key_id,
            owner=caller.owner,
            route=context.route,
            provider=route.provider,
            model=route.public_model,
            upstream_model=route.upstream_model,
            stream=self._call.stream,
            prompt_tokens=estimate.prompt_tokens,
            completion_tokens=estimate.completion_tokens,
            cached_tokens=estimate.cached_tokens,
            estimated=True,
            cost_microusd=_cost(route, estimate),
            duration_ms=self._duration_ms(),
            first_token_ms=None,
            attempts=self._call.attempt_log.attempts,
            outcome=INTERRUPTED,
            session=self._call.session,
            requested_model=context.requested_model,
        )

    def _finish(
        self, record: UsageRecord, settled: SettledUsage, cost: int | None, raw: Mapping[str, Any] | None, outcome: str
    ) -> None:
        """Make the intent's record, which has been written, that of the call's end. Creating another one would cost as
        much as writing one."""
        usage, attempt = settled.usage, self._context.record.last_sent
        record.prompt_tokens = usage.prompt_tokens
        record.completion_tokens = usage.completion_tokens
        record.cached_tokens = usage.cached_tokens
        record.estimated = settled.estimated
        record.provider_usage = None if raw is None else kept_usage(raw)
        record.cost_microusd = cost
        record.duration_ms = self._duration_ms()
        record.first_token_ms = self._first_token_ms
        record.outcome = outcome
        record.upstream_request_id = None if attempt is None else attempt.upstream_request_id

    def _duration_ms(self) -> float:
        return round((time.perf_counter() - self._started) * 1000, 3)


def assumed_costs(prices: Mapping[str, PriceConfig], usage: TokenUsage) -> Mapping[str, int]:
    """Return the costs of a call without a known price, by the name of the rule that assumes a price."""
    return {
        name: min(configured_price(price).microusd(usage), MAX_COST_MICROUSD) for name, price in prices.items()
    }  # fmt: skip


def _stored(usage: TokenUsage) -> TokenUsage:
    """Return the estimated prompt and output, each at most what a column can store: a client may ask for more tokens,
    and retries may add up to more."""
    return TokenUsage(min(usage.prompt_tokens, MAX_TOKENS), min(usage.completion_tokens, MAX_TOKENS))


def _cost(route: Route, usage: TokenUsage) -> int | None:
    """Return the cost, capped at the largest value of a record. The limits are charged the same amount."""
    return None if route.price is None else min(route.price.microusd(usage), MAX_COST_MICROUSD)


def _report_refused(route: Route, raw: Mapping[str, Any] | None) -> None:
    """Count and log implausible counts of a provider. An operator must check them, or the bills will differ."""
    metrics.PROVIDER_USAGE_REFUSED.labels(route.provider, route.public_model).inc()
    name, now = (route.provider, route.public_model), time.monotonic()
    if now - _refused_logged.get(name, -REFUSED_LOG_SECONDS) >= REFUSED_LOG_SECONDS:
        _refused_logged[name] = now  # bounded by the number of routes in the catalog
        counts = None if raw is None else kept_usage(raw)
        _log.warning("provider_usage_refused", provider=route.provider, model=route.public_model, counts=counts)
