"""Return what the ledger knows was used of a budget, for the limiter, which does not know the ledger."""

from datetime import UTC, datetime, timedelta

from platform_app.config.limits.checks import MODEL_ROUTES
from platform_app.ledger.reading.spent import SpentFilter, SpentReader, SpentUnknown
from platform_app.llm.usage.counts import TokenUsage
from platform_app.llm.usage.pricing import configured_price
from platform_app.rate_limit.limiters.seeding import HistoryUnavailable
from platform_app.rate_limit.matching import LimitedRequest
from platform_app.rate_limit.rule import Rule

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LedgerHistory:
    """See BudgetHistory."""

    def __init__(self, reader: SpentReader) -> None:
        self._reader = reader

    async def used(self, rule: Rule, usage: LimitedRequest, since_microseconds: int) -> int:
        """See BudgetHistory.used. Of calls whose price was not known, what the rule takes them for."""
        price = rule.assumed_price
        since = _EPOCH + timedelta(microseconds=since_microseconds)
        try:
            spent = await self._reader.spent(spent_filter(rule, usage), since, unpriced=price is not None)
        except SpentUnknown as error:
            raise HistoryUnavailable(str(error)) from error
        if rule.unit == "tokens":
            return spent.tokens
        if price is None:
            return spent.cost_microusd
        tokens = spent.unpriced
        unpriced = TokenUsage(tokens.prompt, tokens.completion, cached_tokens=tokens.cached)
        return spent.cost_microusd + configured_price(price).microusd(unpriced)


def spent_filter(rule: Rule, usage: LimitedRequest) -> SpentFilter:
    """Whose use counts in the counter that a request with `usage` has of a rule."""
    by_key = rule.scope in ("key", "key_route", "key_model")
    models = (usage.model,) if rule.scope in ("model", "key_model") and usage.model else tuple(sorted(rule.models))
    routes: tuple[str, ...] = ()
    if rule.scope in ("route", "key_route"):
        routes = (usage.route,)
    elif rule.routes and not rule.routes >= MODEL_ROUTES:
        routes = tuple(sorted(rule.routes))
    return SpentFilter(
        key_id=usage.key_id if by_key else None,
        owner=usage.owner if rule.scope == "owner" else None,
        models=models,
        routes=routes,
    )
