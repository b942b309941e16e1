"""The rate limits of a key, as the caller and the operator see them."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from platform_app.config.limits.rules import LimitScope, LimitUnit
from platform_app.rate_limit.limiter import RuleState
from platform_app.rate_limit.matching import Explanation
from platform_app.rate_limit.rule import MICRO_USD, Rule


class LimitView(BaseModel):
    """One rule, as it applies to this key, route and model."""

    rule: str
    scope: LimitScope = Field(description="What the rule counts separately.")
    unit: LimitUnit
    limit: float | None = Field(description="In units, US dollars for cost_usd; null if this key has no limit.")
    window_seconds: int | None = Field(description="The length of a sliding window.")
    window: Literal["day", "month"] | None = Field(description="A calendar period in `time_zone`.")
    time_zone: str | None
    mode: Literal["enforce", "shadow"] = Field(description="shadow: the rule only counts and refuses no request.")
    own_limit: bool = Field(description="Whether the limit is the key's own.")
    applies: bool
    why_not: str | None
    remaining: float | None = Field(description="Null if the rule does not apply.")
    reset_seconds: float | None = Field(description="Until units become available again; 0 if nothing is used.")


class LimitList(BaseModel):
    """Every rule, in the order of the config file."""

    route: str
    model: str | None
    data: list[LimitView]


def limit_view(explained: Explanation, state: RuleState | None) -> dict[str, Any]:
    """Return a LimitView as plain data. `state` is None if the counters were not read."""
    rule = explained.rule
    return {
        "rule": rule.name,
        "scope": rule.scope,
        "unit": rule.unit,
        "limit": _amount(rule, rule.limit) if rule.limit else None,
        "window_seconds": rule.window_seconds,
        "window": rule.calendar.period if rule.calendar else None,
        "time_zone": rule.calendar.time_zone if rule.calendar else None,
        "mode": "shadow" if rule.shadow else "enforce",
        "own_limit": explained.own,
        "applies": explained.why_not is None,
        "why_not": explained.why_not,
        "remaining": _amount(rule, state.remaining) if state else None,
        "reset_seconds": round(state.reset_seconds, 3) if state else None,
    }


def _amount(rule: Rule, units: int) -> float:
    return units / MICRO_USD if rule.unit == "cost_usd" else units
