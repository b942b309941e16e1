"""Find the rules that apply to a request, and the counter of each.

Every rule that applies must have room; one without room denies the request. A key's own limit replaces the limit of a
rule that counts by key. Nothing else overrides a rule.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b

from platform_app.config import LimitRule, PriceConfig
from platform_app.config.limits.checks import COUNTING_ROUTES
from platform_app.observability.metrics.zeros import start_rule_at_zero
from platform_app.rate_limit.rule import Rule, rule_of
from platform_app.value_types import request_dataclass

MAX_OWN_LIMITS = 10_000
_MODEL_SCOPES = ("model", "key_model")


@request_dataclass(frozen=True, slots=True)
class LimitedRequest:
    """A request as limits see it: the caller, the route, the model and the most that it may use."""

    key_id: str
    owner: str
    route: str
    """The route's template."""
    model: str | None = None
    """The public model name, from the catalog; None if no model is called."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """The key's own limits, by rule name; they replace the rule's."""
    tokens: int = 0
    """Estimate of the most tokens that it may use."""
    cost_microusd: int = 0
    """Cost of those tokens in millionths of a dollar."""
    unpriced: str | None = None
    """The model's routes without a known price; None if all have one."""
    assumed_costs: Mapping[str, int] = field(default_factory=dict)
    """Cost at the prices that rules state for routes without one, by rule name."""

    def units(self, rule: Rule) -> int:
        """Return the units that the request may use of a rule."""
        match rule.unit:
            case "tokens":
                return self.tokens
            case "cost_usd":
                assumed = self.assumed_costs
                return max(self.cost_microusd, assumed.get(rule.name, 0)) if assumed else self.cost_microusd
            case _:
                return 1


@request_dataclass(frozen=True, slots=True)
class Charge:
    """One rule applied to one request: `units` in the counter `counter`."""

    rule: Rule
    counter: str
    units: int = 1
    usage: LimitedRequest | None = field(default=None, repr=False, compare=False)
    """The request, from which the ledger's use of this counter is found; None for counters without a ledger."""


def cost_used(charge: Charge, cost_microusd: int | None, assumed_costs: Mapping[str, int] | None) -> int:
    """Return what a call counts in a budget; see Admission.settle for the arguments."""
    if cost_microusd is not None:
        return cost_microusd
    return charge.units if assumed_costs is None else assumed_costs.get(charge.rule.name, 0)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether and how one rule applies to one request."""

    rule: Rule
    """The rule, with the key's own limit if it has one."""
    own: bool
    """Whether the limit is the key's own."""
    why_not: str | None
    """Why the rule does not apply; None if it does."""
    counter: str | None
    """The counter's name; None if the rule does not apply."""


class RuleBook:
    """The rules of the config file."""

    def __init__(self, rules: Sequence[LimitRule]) -> None:
        self._book = _Book(rules)

    def replace(self, rules: Sequence[LimitRule]) -> None:
        """Use other rules from the next request on. A rule with the same name, unit and window keeps its counters, even
        with another limit. Running requests are settled by the rules they began with."""
        self._book = _Book(rules)

    @property
    def rules(self) -> Sequence[Rule]:
        """All rules in the file's order."""
        return self._book.rules

    @property
    def has_token_or_cost_rules(self) -> bool:
        """Whether any rule counts tokens or cost, for which requests are estimated."""
        return self._book.has_token_or_cost_rules

    @property
    def assumed_prices(self) -> Mapping[str, PriceConfig]:
        """The prices that rules state for models without one, by rule name."""
        return self._book.assumed_prices

    @property
    def has_shadow_rules(self) -> bool:
        """Whether any rule is in shadow mode."""
        return self._book.has_shadow_rules

    @property
    def needs_redis(self) -> bool:
        """Whether any rule refuses requests while Redis is unavailable."""
        return self._book.needs_redis

    def charges(self, usage: LimitedRequest) -> list[Charge]:
        """Return a charge for every rule that applies; all of them must have room."""
        rules = self._book.applying(usage.route, usage.model)
        if not usage.limits:
            return [Charge(rule, counter_name(rule, usage), usage.units(rule), usage) for rule in rules if rule.limit]
        own_rules = (self.own(rule, usage.limits) for rule in rules)
        return [Charge(own, counter_name(own, usage), usage.units(own), usage) for own in own_rules if own.limit]

    def explain(self, usage: LimitedRequest) -> list[Explanation]:
        """Return an explanation of every rule in the file's order, including rules that do not apply."""
        found = []
        for rule in self.rules:
            own = self.own(rule, usage.limits)
            why = why_not(rule, usage.route, usage.model)
            if why is None and not own.limit:
                why = "only for keys with their own limit for this rule"
            name = counter_name(own, usage) if why is None else None
            found.append(Explanation(own, own is not rule, why, name))
        return found

    def own(self, rule: Rule, limits: Mapping[str, float]) -> Rule:
        """Return the rule, with the key's own limit if the key has one."""
        given = limits.get(rule.name)
        return rule if given is None or not rule.by_key else self._book.with_limit(rule, rule.units(given))


class _Book:
    """The rules of one state of the config file, with what is computed from them."""

    def __init__(self, rules: Sequence[LimitRule]) -> None:
        self.rules = tuple(rule_of(rule) for rule in rules)
        self.has_token_or_cost_rules = any(rule.unit in ("tokens", "cost_usd") for rule in self.rules)
        self.assumed_prices = {rule.name: rule.assumed_price for rule in self.rules if rule.assumed_price is not None}
        self.has_shadow_rules = any(rule.shadow for rule in self.rules)
        self.needs_redis = any(rule.closes for rule in self.rules)
        self._applying: dict[tuple[str, str | None], tuple[Rule, ...]] = {}
        self._with_limit: OrderedDict[tuple[str, int], Rule] = OrderedDict()
        for rule in self.rules:
            action = rule.unpriced_action if rule.unit == "cost_usd" else None
            start_rule_at_zero(rule.name, closes=rule.closes, unpriced_action=action)

    def applying(self, route: str, model: str | None) -> tuple[Rule, ...]:
        rules = self._applying.get((route, model))
        if rules is None:
            # Bounded: routes are templates of this application, and models are those of the catalog.
            rules = tuple(rule for rule in self.rules if why_not(rule, route, model) is None)
            self._applying[route, model] = rules
        return rules

    def with_limit(self, rule: Rule, limit: int) -> Rule:
        """Return the rule with this limit, cached: creating a rule costs more than limiting a request."""
        own = self._with_limit.get((rule.name, limit))
        if own is None:
            own = self._with_limit[rule.name, limit] = replace(rule, limit=limit)
            if len(self._with_limit) > MAX_OWN_LIMITS:
                self._with_limit.popitem(last=False)
        return own


def why_not(rule: Rule, route: str, model: str | None) -> str | None:
    """Return why a rule does not apply to a request, for people; None if it does."""
    if rule.routes and route not in rule.routes:
        return f"only on {', '.join(sorted(rule.routes))}"
    if rule.models and model not in rule.models:
        return f"only for {', '.join(sorted(rule.models))}"
    if model is None and (rule.unit != "requests" or rule.scope in _MODEL_SCOPES):
        return "only for requests that call a model"
    if rule.unit != "requests" and route in COUNTING_ROUTES:
        return "only for requests that call a model"
    return None


@lru_cache(maxsize=10_000)
def _owner_tag(owner: str) -> str:
    """Return a hash of an owner's name: the name is free text, and braces would break the Redis key."""
    return blake2b(owner.encode(), digest_size=12).hexdigest()


def counter_name(rule: Rule, usage: LimitedRequest) -> str:
    """Return the counter's Redis key. The braces are Redis Cluster's hash tag: the counters of one caller are in one
    slot, and the counters that callers share are in another."""
    match rule.scope:
        case "key":
            return f"fbp:rl:{{{usage.key_id}}}:{rule.tag}"
        case "key_route":
            return f"fbp:rl:{{{usage.key_id}}}:{rule.tag}:{usage.route}"
        case "key_model":
            return f"fbp:rl:{{{usage.key_id}}}:{rule.tag}:{usage.model}"
        case "owner":
            return f"fbp:rl:{{shared}}:{rule.tag}:{_owner_tag(usage.owner)}"
        case "route":
            return f"fbp:rl:{{shared}}:{rule.tag}:{usage.route}"
        case "model":
            return f"fbp:rl:{{shared}}:{rule.tag}:{usage.model}"
        case "global":
            return f"fbp:rl:{{shared}}:{rule.tag}"


def hash_tag(counter: str) -> str:
    """Return the hash tag, the part between the braces, by which Redis Cluster chooses the slot."""
    return counter[counter.find("{") + 1 : counter.find("}")]
