"""Charge the rules that apply to a request, or refuse it with an error for the client."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from platform_app.errors import BudgetExceeded, LimiterUnavailable, PriceUnknown, RateLimited
from platform_app.observability import metrics
from platform_app.observability.context import RequestContext
from platform_app.observability.logging import get_logger
from platform_app.observability.record import LIMITS, OK
from platform_app.rate_limit.known_denials import KnownDenials
from platform_app.rate_limit.limiter import NOTHING_RESERVED, Admission, Decision, RateLimiter, RuleState
from platform_app.rate_limit.matching import Charge, Explanation, LimitedRequest, RuleBook
from platform_app.rate_limit.rule import Rule

SHADOW_LOG_SECONDS = 1.0
"""The interval between two log lines about one rule. The counter counts every denial."""

UNPRICED_LOG_SECONDS = 60.0
"""The interval between two log lines about one rule and one model whose price is not known."""

MAX_CLIENT_WAIT_SECONDS = 60
"""OpenAI's clients wait at most this long before a retry. They ignore a longer Retry-After and
retry within seconds, so `x-should-retry` is false then."""

_log = get_logger("rate_limit")


@dataclass(frozen=True, slots=True)
class RateLimitService:
    """The rules, and the limiter that keeps their counters."""

    rules: RuleBook
    limiter: RateLimiter
    known_denials: KnownDenials = field(default_factory=KnownDenials, repr=False)
    _shadow_logged: "OrderedDict[str, float]" = field(default_factory=OrderedDict, repr=False)
    _unpriced_logged: dict[str, float] = field(default_factory=dict, repr=False)

    def refuse_known(self, usage: LimitedRequest, context: RequestContext) -> None:
        """Refuse a request before its body is read if a remembered denial applies. This does no I/O.

        Raises:
            RateLimited: as `admit`.
        """
        charges = self.rules.charges(usage)
        known = self.known_denials.find(charges)
        if known is not None and known.denied_by is not None:
            context.limits = known
            metrics.LIMITER.labels("denied", "remembered").inc()
            raise _refusal(charges, known, known.denied_by)

    async def admit(self, usage: LimitedRequest, context: RequestContext) -> Admission:
        """Charge every rule that applies, and note the decision in the context, for the response's headers. The caller
        must settle or release the admission when the request has ended.

        Raises:
            RateLimited: a limit is reached; the error names the rule, its limit and its window. Nothing was charged. It
                is a BudgetExceeded if the rule limits cost.
            LimiterUnavailable: Redis is unavailable, and one of the rules refuses requests then.
            PriceUnknown: a rule limits cost, and the model's price is unknown.
        """
        charges = self.rules.charges(usage)
        if usage.unpriced is not None:
            self._require_prices(charges, usage)
        return await self._admit(charges, usage, context)

    async def charge(self, usage: LimitedRequest, context: RequestContext) -> None:
        """Charge a request to a route that calls no model. Nothing is reserved.

        Raises:
            RateLimited: as `admit`.
            LimiterUnavailable: as `admit`.
        """
        (await self.admit(usage, context)).release()

    async def charge_request(self, usage: LimitedRequest, context: RequestContext) -> None:
        """Charge only the rules that count requests: the request uses no tokens and reaches no provider.

        Raises:
            RateLimited: as `admit`.
            LimiterUnavailable: as `admit`.
        """
        charges = [charge for charge in self.rules.charges(usage) if charge.rule.unit == "requests"]
        (await self._admit(charges, usage, context)).release()

    async def _admit(self, charges: Sequence[Charge], usage: LimitedRequest, context: RequestContext) -> Admission:
        if not charges:
            return NOTHING_RESERVED
        began = time.perf_counter()
        try:
            decision = await self.limiter.acquire(charges)
        except LimiterUnavailable as error:
            context.record.hops.append((LIMITS, began, time.perf_counter(), error.code))
            for charge in charges:
                if charge.rule.refuses_on_outage and not charge.rule.shadow:
                    metrics.LIMITER_CLOSED.labels(charge.rule.name).inc()
            raise
        context.limits = decision
        outcome = OK if decision.denied_by is None else "denied"
        context.record.hops.append((LIMITS, began, time.perf_counter(), outcome))
        if decision.denied_by is not None:
            self.known_denials.note(charges, decision)
            raise _refusal(charges, decision, decision.denied_by)
        if self.rules.has_shadow_rules:
            for state in decision.states:
                if state.shadow_denied:
                    self._note_shadow(state.rule, usage)
        return decision.admission

    async def explain(self, usage: LimitedRequest) -> list[tuple[Explanation, RuleState | None]]:
        """Return every rule, with its state if it applies; charge nothing.

        Raises:
            LimiterUnavailable: the counters cannot be reached.
        """
        explained = self.rules.explain(usage)
        charges = [Charge(each.rule, each.counter, usage=usage) for each in explained if each.counter is not None]
        states = iter(await self.limiter.read(charges) if charges else ())
        return [(each, next(states) if each.counter is not None else None) for each in explained]

    def _require_prices(self, charges: Sequence[Charge], usage: LimitedRequest) -> None:
        """Refuse or report a model with a route whose price is not known, as each budget says."""
        for rule in [charge.rule for charge in charges if charge.rule.unit == "cost_usd"]:
            self._note_unpriced(rule, usage, rule.unpriced_action)
            if rule.unpriced_action == "refused":
                raise PriceUnknown(
                    f"The budget '{rule.name}' applies, and the price of the model '{usage.model}' is not known "
                    f"({usage.unpriced}). Use another model, or ask your platform operator for a price of the route, "
                    "or for on_no_price in the rule.",
                    details=[rule.sentence],
                )

    def _note_unpriced(self, rule: Rule, usage: LimitedRequest, action: str) -> None:
        metrics.BUDGET_UNPRICED.labels(rule.name, action).inc()
        now, name = time.monotonic(), f"{rule.name} {usage.model}"
        if action != "counted" and now - self._unpriced_logged.get(name, -UNPRICED_LOG_SECONDS) >= UNPRICED_LOG_SECONDS:
            self._unpriced_logged[name] = now  # bounded: rules and models come from the config file
            _log.warning(
                "budget_price_unknown", rule=rule.name, model=usage.model, routes=usage.unpriced, action=action
            )

    def _note_shadow(self, rule: Rule, usage: LimitedRequest) -> None:
        metrics.LIMITER_DENIALS.labels(rule.name, "shadow").inc()
        now = time.monotonic()
        if now - self._shadow_logged.get(rule.name, -SHADOW_LOG_SECONDS) >= SHADOW_LOG_SECONDS:
            self._shadow_logged[rule.name] = now
            _log.info("limit_shadow_denied", rule=rule.name, key_id=usage.key_id, route=usage.route, model=usage.model)


def _refusal(charges: Sequence[Charge], decision: Decision, denied_by: RuleState) -> RateLimited:
    rule = denied_by.rule
    metrics.LIMITER_DENIALS.labels(rule.name, "enforce").inc()
    kind = BudgetExceeded if rule.unit == "cost_usd" else RateLimited
    cost = next(charge.units for charge in charges if charge.rule.name == rule.name)
    if cost > rule.limit:
        return kind(
            f"This request may use {_amount(rule, cost)}, and the limit '{rule.name}' allows "
            f"{_amount(rule, rule.limit)} in all. Retrying will not help; request less, for example with a smaller "
            "max_tokens.",
            details=[rule.sentence],
            should_retry=False,
        )
    what = "budget" if rule.unit == "cost_usd" else "rate limit"
    return kind(
        f"The {what} '{rule.name}' is reached. Try again in {decision.retry_after} s.",
        details=[rule.sentence],
        retry_after=decision.retry_after,
        should_retry=decision.retry_after <= MAX_CLIENT_WAIT_SECONDS,
    )


def _amount(rule: Rule, units: int) -> str:
    return f"{rule.shown(units)} {'US dollars' if rule.unit == 'cost_usd' else rule.unit}"
