"""Which rules apply to a request, and which counter each of them counts in."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from platform_app.config import LimitRule

MAX_OWN_LIMITS = 10_000


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request is about to use, as rules see it."""

    key_id: str
    owner: str
    route: str
    """The route's template."""
    model: str | None = None
    """The public model name, from the catalog."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """The key's own limits, by rule name; they replace the rule's."""
    tokens: int = 0
    cost_microusd: int = 0


@dataclass(frozen=True, slots=True)
class Charge:
    """One rule applied to one request: `cost` units in the counter `counter`."""

    rule: LimitRule
    counter: str
    cost: int = 1


class RuleBook:
    """The rules of the config file, sorted by the route that they apply to."""

    def __init__(self, rules: Sequence[LimitRule]) -> None:
        self.replace(rules)
        self.weighs = False
        self.default_output_tokens = 1024
        self._with_limit: OrderedDict[tuple[str, int], LimitRule] = OrderedDict()

    def replace(self, rules: Sequence[LimitRule]) -> None:
        """Stand-in until the limits land."""
        self._rules = tuple(rules)
        self._by_route: dict[str, tuple[LimitRule, ...]] = {}

    def charges(self, usage: Usage) -> list[Charge]:
        """Every rule that applies, each with its counter; all of them must have room."""
        rules = self._by_route.get(usage.route)
        if rules is None:
            # Routes are templates of this app, so this memory is bounded.
            rules = tuple(rule for rule in self._rules if not rule.routes or usage.route in rule.routes)
            self._by_route[usage.route] = rules
        return [
            Charge(self._own(rule, usage.limits) if usage.limits else rule, counter_name(rule, usage))
            for rule in rules
            if usage.model is not None or rule.scope not in ("model", "key_model")
        ]

    def _own(self, rule: LimitRule, limits: Mapping[str, int]) -> LimitRule:
        """The rule with the key's own limit in it. Remembered, since copying a model costs more than limiting."""
        limit = limits.get(rule.name)
        if limit is None or rule.scope not in ("key", "key_route", "key_model"):
            return rule
        own = self._with_limit.get((rule.name, limit))
        if own is None:
            own = self._with_limit[rule.name, limit] = rule.model_copy(update={"limit": limit})
            if len(self._with_limit) > MAX_OWN_LIMITS:
                self._with_limit.popitem(last=False)
        return own


def counter_name(rule: LimitRule, usage: Usage) -> str:
    """The Redis key. The braces are Redis Cluster's hash tag: one caller's counters share a slot, and the
    counters that callers share sit together in another."""
    match rule.scope:
        case "key":
            return f"fbp:rl:{{{usage.key_id}}}:{rule.name}"
        case "key_route":
            return f"fbp:rl:{{{usage.key_id}}}:{rule.name}:{usage.route}"
        case "key_model":
            return f"fbp:rl:{{{usage.key_id}}}:{rule.name}:{usage.model}"
        case "owner":
            # An owner's name is free text; its hash keeps braces and spaces out of the key.
            return f"fbp:rl:{{shared}}:{rule.name}:{blake2b(usage.owner.encode(), digest_size=12).hexdigest()}"
        case "route":
            return f"fbp:rl:{{shared}}:{rule.name}:{usage.route}"
        case "model":
            return f"fbp:rl:{{shared}}:{rule.name}:{usage.model}"
        case "global":
            return f"fbp:rl:{{shared}}:{rule.name}"
