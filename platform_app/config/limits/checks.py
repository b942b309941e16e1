"""Find limit rules that contradict each other or can never deny a request."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Protocol

MODEL_ROUTES = frozenset(
    {"/v1/platform/chat", "/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"}
)
"""Templates of the routes that call a model; only they have tokens, a cost and a duration. A test compares them with
the app."""
COUNTING_ROUTES = frozenset({"/v1/messages/count_tokens"})
"""Templates of the routes that count the tokens of a request: they use none, and count as a request for the model."""
ROUTES_WITH_MODEL = MODEL_ROUTES | COUNTING_ROUTES
LIMITED_ROUTES = ROUTES_WITH_MODEL | {
    "/v1/responses/{response_id}",
    "/v1/models",
    "/v1/models/{model}",
    "/v1/platform/api-keys",
    "/v1/platform/api-keys/{key_id}",
    "/v1/platform/api-keys/{key_id}/revoke",
    "/v1/platform/api-keys/{key_id}/rotate",
    "/v1/platform/audit",
    "/v1/platform/requests/{id}",
    "/v1/platform/usage",
}
"""Templates of all routes with limits. A test compares them with the app."""

_WIDER: dict[str, frozenset[str]] = {
    "key_route": frozenset({"key", "owner", "route", "global"}),
    "key_model": frozenset({"key", "owner", "model", "global"}),
    "key": frozenset({"owner", "global"}),
    "owner": frozenset({"global"}),
    "route": frozenset({"global"}),
    "model": frozenset({"global"}),
    "global": frozenset(),
}
"""For each scope, the scopes whose counters include everything that a counter of this scope counts."""


class Rule(Protocol):
    """The attributes of a LimitRule that these checks read."""

    @property
    def name(self) -> str: ...  # noqa: D102 - see LimitRule
    @property
    def scope(self) -> str: ...  # noqa: D102 - see LimitRule
    @property
    def unit(self) -> str: ...  # noqa: D102 - see LimitRule
    @property
    def limit(self) -> Decimal | None: ...  # noqa: D102 - see LimitRule
    @property
    def window_seconds(self) -> int | None: ...  # noqa: D102 - see LimitRule
    @property
    def window(self) -> str | None: ...  # noqa: D102 - see LimitRule
    @property
    def time_zone(self) -> str | None: ...  # noqa: D102 - see LimitRule
    @property
    def routes(self) -> Sequence[str]: ...  # noqa: D102 - see LimitRule
    @property
    def models(self) -> Sequence[str]: ...  # noqa: D102 - see LimitRule
    @property
    def mode(self) -> str: ...  # noqa: D102 - see LimitRule


def check_routes(routes: Sequence[str], unit: str, of_models: bool) -> Iterator[str]:
    """Yield what is wrong with a rule's routes. `of_models`: the rule counts only requests that name a model."""
    applicable = MODEL_ROUTES if unit != "requests" else ROUTES_WITH_MODEL if of_models else LIMITED_ROUTES
    for route in routes:
        if route not in LIMITED_ROUTES:
            yield f"routes: '{route[:100]}' is not a route with limits; choose from {', '.join(sorted(LIMITED_ROUTES))}"
        elif route not in applicable:
            yield (
                f"routes: '{route}' calls no model, so this rule would never apply there; choose from "
                f"{', '.join(sorted(applicable))}"
            )


def unreachable_rules(rules: Sequence[Rule]) -> list[str]:
    """Yield one sentence for each rule that never denies first, because another rule always denies before or with
    it."""
    problems = []
    for index, rule in enumerate(rules):
        for other_index, other in enumerate(rules):
            twins = _hides(rule, other) and _hides(other, rule)
            if index != other_index and _hides(other, rule) and (not twins or other_index < index):
                problems.append(
                    f"rule '{rule.name}' can never decide: '{other.name}' allows no more of the same in at least that "
                    "window; remove one, or make the narrower limit the lower one (a rule that is for keys' own limits "
                    "alone has no limit)"
                )
                break
    return problems


def _hides(other: Rule, rule: Rule) -> bool:
    """Return whether everything that `rule` counts exhausts `other` no later than `rule`."""
    if other.unit != rule.unit or other.limit is None or rule.limit is None or other.limit > rule.limit:
        return False
    if other.mode == "shadow" and rule.mode == "enforce":
        return False
    wider = other.scope == rule.scope or other.scope in _WIDER[rule.scope]
    return wider and _covers(other.routes, rule.routes) and _covers(other.models, rule.models) and _lasts(other, rule)


def _covers(others: Sequence[str], ours: Sequence[str]) -> bool:
    return not others or (bool(ours) and set(ours) <= set(others))


def _lasts(other: Rule, rule: Rule) -> bool:
    """Return whether every window of `rule` lies within a window of `other`."""
    if rule.window is not None:
        same = (other.window, other.time_zone) == (rule.window, rule.time_zone)
        return same or (rule.window == "day" and other.window == "month" and other.time_zone == rule.time_zone)
    return other.window is None and (other.window_seconds or 0) >= (rule.window_seconds or 0)
