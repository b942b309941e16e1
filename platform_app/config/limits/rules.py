"""Limit rules in the config file."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field

from platform_app.config.catalog import PriceConfig
from platform_app.config.fields import NameOrWildcard, RuleName
from platform_app.config.limits.checks import check_routes, unreachable_rules
from platform_app.config.reading.checks import Check, ConfigModel
from platform_app.config.reading.explain import Problem

LimitScope = Literal["key", "owner", "route", "model", "key_route", "key_model", "global"]
LimitUnit = Literal["requests", "tokens", "concurrent", "cost_usd"]
CalendarWindow = Literal["day", "month"]

MAX_LIMIT = 1_000_000_000
"""The highest limit of any unit. As millionths of a dollar it is still below 2^53, which Redis' Lua counts exactly."""
RESERVING_UNITS = ("tokens", "cost_usd")
"""Units whose number is known only after the call."""
BY_KEY_SCOPES = ("key", "key_route", "key_model")
"""Scopes of the rules for which a key may have its own limit."""


@lru_cache(1)
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _time_zone(name: str) -> str:
    if name not in _time_zones():
        raise ValueError(f"'{name[:64]}' is not a time zone; expected an IANA name such as Europe/Berlin or UTC")
    return name


class LimitRule(ConfigModel):
    """At most `limit` units in any window of that length, with a separate counter for each value of the scope."""

    name: RuleName
    scope: LimitScope
    unit: LimitUnit = "requests"
    limit: Annotated[Decimal, Field(gt=0, le=MAX_LIMIT, decimal_places=6)] | None = Field(
        None,
        description="How many units; US dollars for cost_usd. Without it the rule applies only to keys that "
        "have their own limit by this name.",
    )
    window_seconds: Annotated[int, Field(ge=1, le=31 * 86_400)] | None = Field(
        None, description="A sliding window of this length."
    )
    window: CalendarWindow | None = Field(
        None, description="A calendar day or month in `time_zone`, for tokens and cost_usd."
    )
    time_zone: Annotated[str, AfterValidator(_time_zone)] | None = Field(
        None, description="An IANA name, such as Europe/Berlin; required with `window`."
    )
    routes: tuple[str, ...] = Field((), description="Only on these route templates; empty: on every limited one.")
    models: tuple[NameOrWildcard, ...] = Field(
        (), description="Only for these public models; empty: for every request."
    )
    mode: Literal["enforce", "shadow"] = Field(
        "enforce", description="shadow: counted and logged as if it were enforced, but no request is refused."
    )
    on_outage: Literal["degrade", "closed"] = Field(
        "degrade",
        description="While Redis is down: degrade to limit ÷ processes in each process, or refuse (closed).",
    )
    on_no_price: Literal["refuse", "warn"] | PriceConfig = Field(
        "refuse",
        description="For cost_usd, where a route's price is not known: refuse requests for its model, warn (count them "
        "as nothing, and log it), or the price that they are counted at.",
    )

    def own_limit_problem(self, limit: float) -> str | None:
        """Return what is wrong with a key's own limit for this rule, or None."""
        if self.unit == "cost_usd":
            if not 0.000001 <= limit <= MAX_LIMIT:
                return f"US dollars from 0.000001 to {MAX_LIMIT} are needed"
        elif not 1 <= limit <= MAX_LIMIT or limit != int(limit):
            return f"a whole number from 1 to {MAX_LIMIT} is needed"
        return None

    def checks(self) -> Iterable[Check]:
        """See ConfigModel.checks."""
        return (self._windows, self._limits, self._prices, self._only_limited_routes)

    def _windows(self) -> Iterator[Problem]:
        if self.unit == "concurrent":
            if self.window_seconds is not None or self.window is not None:
                yield self._own("concurrent requests have no window; leave window_seconds and window out")
            return
        if (self.window_seconds is None) == (self.window is None):
            yield self._own("exactly one of window_seconds and window is needed")
        if self.window is not None and self.unit not in RESERVING_UNITS:
            yield self._own("a calendar window is for tokens and cost_usd; give window_seconds")
        if (self.window is None) != (self.time_zone is None):
            yield self._own("window and time_zone belong together; give both or neither")

    def _limits(self) -> Iterator[Problem]:
        if self.limit is None:
            if self.scope not in BY_KEY_SCOPES:
                yield self._own(
                    f"a rule without a limit is for keys' own limits, and scope {self.scope} does not count by key; "
                    "give it a limit"
                )
        elif self.unit != "cost_usd" and self.limit != int(self.limit):
            yield ("limit",), f"{self.unit} are whole numbers, got {self.limit}"

    def _prices(self) -> Iterator[Problem]:
        if self.unit != "cost_usd" and self.on_no_price != "refuse":
            yield self._own("on_no_price is for cost_usd; leave it out")

    def _only_limited_routes(self) -> Iterator[Problem]:
        of_models = self.scope in ("model", "key_model") or bool(self.models)
        for sentence in check_routes(self.routes, self.unit, of_models):
            yield self._own(sentence)

    def _own(self, sentence: str) -> Problem:
        return (), f"rule '{self.__dict__.get('name', 'without a valid name')}': {sentence}"


DEFAULT_RULES = (
    LimitRule(name="key-rpm", scope="key", limit=Decimal(60), window_seconds=60),
    LimitRule(name="route-rpm", scope="route", limit=Decimal(6000), window_seconds=60),
)


class RateLimitsConfig(ConfigModel):
    """The limit rules; a file that names none gets the defaults, and an empty list is refused."""

    default_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1024, description="Tokens that a request without max_tokens reserves for its completion."
    )
    rules: Annotated[tuple[LimitRule, ...], Field(min_length=1, max_length=32)] = DEFAULT_RULES

    def checks(self) -> Iterable[Check]:
        """See ConfigModel.checks."""
        return (self._unique_names, self._reachable)

    def _unique_names(self) -> Iterator[Problem]:
        names = [rule.name for rule in self._complete]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            yield (), f"rule names are used twice: {', '.join(twice)}; give each rule its own name"

    def _reachable(self) -> Iterator[Problem]:
        for sentence in unreachable_rules(self._complete):
            yield (), sentence

    @property
    def _complete(self) -> list[LimitRule]:
        return [rule for rule in self.rules if rule.is_complete]
