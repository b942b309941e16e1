"""Check prices: which routes have no known price, and how each budget treats them."""

from collections.abc import Iterator

from platform_app.config import PlatformConfig
from platform_app.config.limits.checks import MODEL_ROUTES
from platform_app.config.model_names import WILDCARD
from platform_app.llm.models.builder import routes_by_model
from platform_app.llm.models.route import Route
from platform_app.rate_limit.matching import RuleBook, why_not
from platform_app.rate_limit.rule import Rule
from platform_app.readiness import Check


def price_checks(config: PlatformConfig) -> list[Check]:
    """Return one check for each route without a known price and each budget that applies to its model; a single check
    if every price is known."""
    budgets = [rule for rule in RuleBook(config.rate_limits.rules).rules if rule.unit == "cost_usd"]
    found = [
        check
        for model, routes in routes_by_model(config).items()
        for route in routes
        if route.price is None and WILDCARD not in route.upstream_model  # looked up for each requested name
        for check in _of_route(model, route, budgets)
    ]
    return found or [Check("prices", True, True, "known of every route")]


def _of_route(model: str, route: Route, budgets: list[Rule]) -> Iterator[Check]:
    what = f"price of {model}"
    where = f"route {route.provider}/{route.upstream_model}: no price is known"
    applying = [rule for rule in budgets if any(why_not(rule, path, model) is None for path in MODEL_ROUTES)]
    if not applying:
        yield Check(what, True, False, f"{where}; the ledger records no cost of it, and no budget applies")
    for rule in applying:
        if rule.assumed_price is not None:
            yield Check(what, True, True, f"{where}; rule '{rule.name}' counts it at its own price")
        elif rule.refuses_unpriced and not rule.shadow:
            yield Check(what, False, True, f"{where}; rule '{rule.name}' refuses it: state price or on_no_price")
        else:
            yield Check(what, False, False, f"{where}; rule '{rule.name}' counts it as nothing")
