"""A limit rule in the form that the limiters use: whole units, and every default filled in."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from platform_app.config import LimitRule, PriceConfig
from platform_app.config.limits.rules import BY_KEY_SCOPES, LimitScope, LimitUnit
from platform_app.rate_limit.calendar import Calendar

MICRO_USD = 1_000_000
"""Units per US dollar: costs are counted in millionths of a dollar."""


class Kind(IntEnum):
    """How a counter counts. The scripts use the same numbers."""

    SLIDING_WINDOW = 1
    """Units are charged at admission and count for a window."""
    CONCURRENCY = 2
    """Units are reserved while the request runs."""
    RESERVED_WINDOW = 3
    """Units are reserved while the request runs. The used units then count for a window from its admission."""
    RESERVED_CALENDAR = 4
    """As RESERVED_WINDOW, but the used units count in a calendar period."""


@dataclass(frozen=True, slots=True)
class Rule:
    """At most `limit` units at a time, in any window or in a calendar period."""

    name: str
    scope: LimitScope
    unit: LimitUnit
    limit: int
    """In units; for cost in millionths of a dollar. 0: the rule applies only to keys with their own limit for it."""
    kind: Kind = Kind.SLIDING_WINDOW
    window_seconds: int | None = None
    """Length of a sliding window; None for other kinds."""
    calendar: Calendar | None = None
    routes: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    shadow: bool = False
    """The rule counts and never denies."""
    refuses_on_outage: bool = False
    """The rule refuses requests while Redis is unavailable."""
    refuses_unpriced: bool = False
    """The rule refuses requests to models without a known price."""
    assumed_price: PriceConfig | None = None
    """The price that is used for such models; None counts their requests as free."""
    tag: str = field(init=False, default="")
    """Part of its counters' names: the rule's name, unit and window. A rule whose limit changes keeps its counters; one
    whose unit or window changes starts new ones."""
    script_kind: int = field(init=False, default=0)
    """The kind as the scripts expect it, negative for shadow rules."""
    window_microseconds: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        span = self.calendar.tag if self.calendar else self.window_seconds or "now"
        object.__setattr__(self, "tag", f"{self.name}:{self.unit}:{span}")
        object.__setattr__(self, "script_kind", int(-self.kind if self.shadow else self.kind))
        object.__setattr__(self, "window_microseconds", (self.window_seconds or 0) * 1_000_000)

    @property
    def reserves(self) -> bool:
        """Whether a request reserves units of it until it ends."""
        return self.kind is not Kind.SLIDING_WINDOW

    @property
    def closes(self) -> bool:
        """Whether it refuses requests while Redis is unavailable."""
        return self.refuses_on_outage and not self.shadow

    @property
    def unpriced_action(self) -> str:
        """What a budget does about a model whose price is not known: refused, warned or counted."""
        if self.refuses_unpriced and not self.shadow:
            return "refused"
        return "warned" if self.assumed_price is None else "counted"

    @property
    def by_key(self) -> bool:
        """Whether keys can have their own limit for it."""
        return self.scope in BY_KEY_SCOPES

    def script_time(self) -> Sequence[int]:
        """Return the counter's time as the scripts expect it; see sliding_window.lua."""
        if self.calendar is not None:
            return self.calendar.around(time.time())
        return (self.window_microseconds,) if self.window_microseconds else ()

    def units(self, limit: float) -> int:
        """Convert a limit from the config file's unit to the rule's units."""
        return round(limit * MICRO_USD) if self.unit == "cost_usd" else int(limit)

    def shown(self, units: int) -> str:
        """Format units for people; cost in dollars."""
        return f"{units / MICRO_USD:.6f}".rstrip("0").rstrip(".") if self.unit == "cost_usd" else str(units)

    @property
    def sentence(self) -> str:
        """The rule as a phrase for error messages."""
        what = {"concurrent": "concurrent requests", "cost_usd": "US dollars"}.get(self.unit, self.unit)
        return f"{self.name}: {self.shown(self.limit)} {what} {self.shown_window}, counted by {self.scope}"

    @property
    def shown_window(self) -> str:
        """The window as a phrase for error messages."""
        if self.calendar is not None:
            return f"in a calendar {self.calendar.period} ({self.calendar.time_zone})"
        return f"in any {self.window_seconds} s" if self.window_seconds is not None else "at a time"


def rule_of(config: LimitRule) -> Rule:
    """Return the rule that a config file's entry describes."""
    calendar = Calendar(config.window, config.time_zone) if config.window and config.time_zone else None
    if config.unit == "concurrent":
        kind = Kind.CONCURRENCY
    elif config.unit == "requests":
        kind = Kind.SLIDING_WINDOW
    else:
        kind = Kind.RESERVED_CALENDAR if calendar is not None else Kind.RESERVED_WINDOW
    rule = Rule(
        name=config.name,
        scope=config.scope,
        unit=config.unit,
        limit=0,
        kind=kind,
        window_seconds=config.window_seconds,
        calendar=calendar,
        routes=frozenset(config.routes),
        models=frozenset(config.models),
        shadow=config.mode == "shadow",
        refuses_on_outage=config.on_outage == "closed",
        refuses_unpriced=config.unit == "cost_usd" and config.on_no_price == "refuse",
        assumed_price=config.on_no_price if isinstance(config.on_no_price, PriceConfig) else None,
    )
    return replace(rule, limit=rule.units(float(config.limit))) if config.limit is not None else rule
