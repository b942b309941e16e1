"""The limit rules' models."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from platform_app.config.fields import ConfigModel, RuleName


class LimitRule(ConfigModel):
    """At most `limit` units in any `window_seconds`, counted apart for each value of the scope."""

    name: RuleName
    scope: Literal["key", "owner", "route", "model", "key_route", "key_model", "global"]
    unit: Literal["requests"] = "requests"
    limit: Annotated[int, Field(ge=1, le=1_000_000_000)]
    window_seconds: Annotated[int, Field(ge=1, le=31 * 86_400)]
    routes: tuple[str, ...] = Field((), description="Only on these route templates; empty: on every limited one.")


DEFAULT_RULES = (
    LimitRule(name="key-rpm", scope="key", limit=60, window_seconds=60),
    LimitRule(name="route-rpm", scope="route", limit=6000, window_seconds=60),
)


class RateLimitsConfig(ConfigModel):
    """The limit rules; a file that names none gets the defaults, and an empty list is refused."""

    rules: Annotated[tuple[LimitRule, ...], Field(min_length=1, max_length=32)] = DEFAULT_RULES

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        names = [rule.name for rule in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rule names are used twice: {', '.join(twice)}; give each rule a name of its own")
        return self
