"""What a rule book knows of all its rules together, and its bound on keys' own limits."""

import pytest

from platform_app.config import LimitRule, PriceConfig
from platform_app.rate_limit import matching
from platform_app.rate_limit.matching import LimitedRequest, RuleBook
from platform_app.rate_limit.rule import Rule


def rule(name: str, **fields: object) -> LimitRule:
    values = {"name": name, "scope": "key", "limit": 5, "window_seconds": 60, **fields}
    return LimitRule.model_validate(values)


PLAIN, SHADOW, TOKENS = rule("plain"), rule("shadow", mode="shadow"), rule("tokens", unit="tokens")
CLOSED = rule("closed", on_outage="closed")
CLOSED_SHADOW = rule("closed-shadow", on_outage="closed", mode="shadow")


@pytest.mark.parametrize(
    ("rules", "flags"),
    [
        ([PLAIN], (False, False, False)),
        ([PLAIN, SHADOW], (True, False, False)),
        ([PLAIN, TOKENS], (False, True, False)),
        ([PLAIN, CLOSED], (False, False, True)),
        ([PLAIN, CLOSED_SHADOW], (True, False, False)),
    ],
)
def test_flag_is_set_by_one_rule_of_several(rules: list[LimitRule], flags: tuple[bool, bool, bool]) -> None:
    book = RuleBook(rules)
    assert (book.has_shadow_rules, book.has_token_or_cost_rules, book.needs_redis) == flags


def test_own_limits_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners of keys choose their limits, so there may be any number of them."""
    monkeypatch.setattr(matching, "MAX_OWN_LIMITS", 3)
    book = RuleBook([PLAIN])
    (plain,) = book.rules
    assert [book.own(plain, {"plain": limit}).limit for limit in range(1, 10)] == list(range(1, 10))
    assert len(book._book._with_limit) == 3
    assert book.own(plain, {"plain": 9}) is book.own(plain, {"plain": 9}), "the newest ones stay"
    assert book.own(plain, {"plain": 1}).limit == 1


def test_own_limits_replace_those_of_rules_by_key() -> None:
    owners, given = rule("owners", scope="owner"), rule("given", limit=None)
    book = RuleBook([PLAIN, owners, given])
    usage = LimitedRequest("k", "team-a", "/r", tokens=3)
    assert [(each.rule.name, each.rule.limit) for each in book.charges(usage)] == [("plain", 5), ("owners", 5)]
    own = LimitedRequest("k", "team-a", "/r", limits={"plain": 9, "owners": 9, "given": 2})
    assert [(each.rule.name, each.rule.limit, each.units) for each in book.charges(own)] == [
        ("plain", 9, 1), ("owners", 5, 1), ("given", 2, 1),
    ]  # fmt: skip
    assert all(each.usage is own for each in book.charges(own))


def test_assumed_prices_are_those_of_rules_that_state_one() -> None:
    price = {"input_usd_per_million": 10, "output_usd_per_million": 100}
    stated = rule("stated", unit="cost_usd", on_no_price=price)
    book = RuleBook([PLAIN, rule("warned", unit="cost_usd", on_no_price="warn"), stated])
    assert book.assumed_prices == {"stated": PriceConfig.model_validate(price)}


def test_rules_of_a_route_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With many rules, looking for those that apply costs more than counting does."""
    asked: list[str] = []
    why_not = matching.why_not

    def noted(rule: Rule, route: str, model: str | None) -> str | None:
        asked.append(route)
        return why_not(rule, route, model)

    monkeypatch.setattr(matching, "why_not", noted)
    book = RuleBook([PLAIN])
    for route in ("/a", "/b", "/a", "/b"):
        book.charges(LimitedRequest("k", "team-a", route))
    assert asked == ["/a", "/b"]
