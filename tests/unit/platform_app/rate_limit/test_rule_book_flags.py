"""What a rule book knows of all its rules together, and its bound on keys' own limits."""

import pytest

from platform_app.config import LimitRule
from platform_app.rate_limit import matching
from platform_app.rate_limit.matching import RuleBook


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
    assert book.own(plain, {"plain": 1}).limit == 1
