"""A limit rule as the limiters need it: whole numbers and no questions left."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from platform_app.config import LimitRule, PriceConfig
from platform_app.config.limits import BY_KEY_SCOPES, LimitScope, LimitUnit
from platform_app.rate_limit.calendar import Calendar

MICRO_USD = 1_000_000
"""Costs are counted in millionths of a dollar."""


class Kind(IntEnum):
    """How a counter counts; the numbers are what the scripts are told."""

    SLIDING_WINDOW = 1
    """Units are charged at once, and count for a window."""
    CONCURRENCY = 2
    """Units are held while the request runs."""
    RESERVED_WINDOW = 3
    """Units are held while the request runs; what it used then counts for a window from its admission."""
    RESERVED_CALENDAR = 4
    """The same in a calendar period."""


@dataclass(frozen=True, slots=True)
class Rule:
    """At most `limit` units at a time, in any window or in a calendar period."""

    name: str
    scope: LimitScope
    unit: LimitUnit
    limit: int
    """In units; for cost in millionths of a dollar. 0: nobody's but keys' own limits count."""
    kind: Kind = Kind.SLIDING_WINDOW
    window_seconds: int | None = None
    """Of sliding windows."""
    calendar: Calendar | None = None
    routes: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    shadow: bool = False
    """It counts, and denies nothing."""
    refuses_on_outage: bool = False
    """Without Redis it refuses."""
    refuses_unpriced: bool = False
    """It refuses requests whose price is not known."""
    assumed_price: PriceConfig | None = None
    """What such requests are counted at instead; None: they count as nothing."""
    tag: str = field(init=False, default="")
    """What its counters are called: the name and what they count, so that a rule whose limit changes goes on, and one
    whose window or unit changes starts anew."""
    script_kind: int = field(init=False, default=0)
    """What the scripts are told: the kind, negative for shadow rules."""
    window_microseconds: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        span = self.calendar.tag if self.calendar else self.window_seconds or "now"
        object.__setattr__(self, "tag", f"{self.name}:{self.unit}:{span}")
        object.__setattr__(self, "script_kind", int(-self.kind if self.shadow else self.kind))
        object.__setattr__(self, "window_microseconds", (self.window_seconds or 0) * 1_000_000)

    @property
    def reserves(self) -> bool:
        """Whether a request holds something of it until its end."""
        return self.kind is not Kind.SLIDING_WINDOW

    @property
    def by_key(self) -> bool:
        """Whether a key may have its own limit for it."""
        return self.scope in BY_KEY_SCOPES

    def script_time(self) -> Sequence[int]:
        """What the scripts must know of the counter's time, see sliding_window.lua."""
        if self.calendar is not None:
            return self.calendar.around(time.time())
        return (self.window_microseconds,) if self.window_microseconds else ()

    def units(self, limit: float) -> int:
        """A limit as people write it, in the rule's units."""
        return round(limit * MICRO_USD) if self.unit == "cost_usd" else int(limit)

    def shown(self, units: int) -> str:
        """Units as people read them."""
        return f"{units / MICRO_USD:.6f}".rstrip("0").rstrip(".") if self.unit == "cost_usd" else str(units)

    @property
    def sentence(self) -> str:
        """The whole rule as people read it."""
        what = {"concurrent": "concurrent requests", "cost_usd": "US dollars"}.get(self.unit, self.unit)
        return f"{self.name}: {self.shown(self.limit)} {what} {self.shown_window}, counted by {self.scope}"

    @property
    def shown_window(self) -> str:
        """The window as people read it."""
        if self.calendar is not None:
            return f"in a calendar {self.calendar.period} ({self.calendar.time_zone})"
        return f"in any {self.window_seconds} s" if self.window_seconds is not None else "at a time"


def rule_of(config: LimitRule) -> Rule:
    """The rule that the config file describes."""
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
