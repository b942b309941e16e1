"""Which rules apply, and the names of their counters."""

import re
from dataclasses import replace

import pytest

from platform_app.config import LimitRule
from platform_app.rate_limit.matching import (
    Charge,
    LimitedRequest,
    RuleBook,
    cost_used,
    counter_name,
    hash_tag,
    why_not,
)
from platform_app.rate_limit.rule import Rule, rule_of

USAGE = LimitedRequest("KeyId1234567", "Team {A} \n:x", "/v1/platform/chat", "gpt-4o")


def rule(scope: str, *, name: str = "r", routes: tuple[str, ...] = ()) -> LimitRule:
    return LimitRule(name=name, scope=scope, limit=5, window_seconds=60, routes=routes)


def limit(scope: str, *, name: str = "r") -> Rule:
    return rule_of(rule(scope, name=name))


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        ("key", "fbp:rl:{KeyId1234567}:r:requests:60"),
        ("key_route", "fbp:rl:{KeyId1234567}:r:requests:60:/v1/platform/chat"),
        ("key_model", "fbp:rl:{KeyId1234567}:r:requests:60:gpt-4o"),
        ("route", "fbp:rl:{shared}:r:requests:60:/v1/platform/chat"),
        ("model", "fbp:rl:{shared}:r:requests:60:gpt-4o"),
        ("global", "fbp:rl:{shared}:r:requests:60"),
    ],
)
def test_counter_names(scope: str, name: str) -> None:
    assert counter_name(limit(scope), USAGE) == name


def test_owner_appears_as_a_hash() -> None:
    # BLAKE2b with a digest of 12 bytes, from coreutils' `b2sum -l 96`.
    assert (
        counter_name(limit("owner"), LimitedRequest("k", "team-a", "/r"))
        == "fbp:rl:{shared}:r:requests:60:b5059a064b672b5bfa064300"
    )
    assert re.fullmatch(r"fbp:rl:\{shared\}:r:requests:60:[0-9a-f]{24}", counter_name(limit("owner"), USAGE))


def test_callers_counters_share_one_slot() -> None:
    own = {hash_tag(counter_name(limit(scope), USAGE)) for scope in ("key", "key_route", "key_model")}
    shared = {hash_tag(counter_name(limit(scope), USAGE)) for scope in ("owner", "route", "model", "global")}
    assert own == {USAGE.key_id}
    assert shared == {"shared"}


@pytest.mark.parametrize(
    ("scope", "other"),
    [
        ("key", LimitedRequest("KeyId7654321", USAGE.owner, USAGE.route, USAGE.model)),
        ("owner", LimitedRequest(USAGE.key_id, "team-b", USAGE.route, USAGE.model)),
        ("route", LimitedRequest(USAGE.key_id, USAGE.owner, "/v1/models", USAGE.model)),
        ("key_route", LimitedRequest(USAGE.key_id, USAGE.owner, "/v1/models", USAGE.model)),
        ("model", LimitedRequest(USAGE.key_id, USAGE.owner, USAGE.route, "gpt-4o-mini")),
        ("key_model", LimitedRequest(USAGE.key_id, USAGE.owner, USAGE.route, "gpt-4o-mini")),
    ],
)
def test_each_value_of_a_scope_has_its_counter(scope: str, other: LimitedRequest) -> None:
    assert counter_name(limit(scope), other) != counter_name(limit(scope), USAGE)


def test_each_rule_has_its_counter() -> None:
    names = [counter_name(limit("key", name=name), USAGE) for name in ("rpm", "rpd")]
    assert len(set(names)) == 2


def test_rule_applies_to_its_routes_or_all() -> None:
    book = RuleBook([rule("key", name="all"), rule("key", name="chat", routes=("/v1/platform/chat",))])
    assert [charge.rule.name for charge in book.charges(USAGE)] == ["all", "chat"]
    assert [charge.rule.name for charge in book.charges(LimitedRequest("k", "o", "/v1/models"))] == ["all"]
    assert [charge.rule.name for charge in book.charges(USAGE)] == ["all", "chat"]


def test_model_rules_apply_only_with_a_model() -> None:
    book = RuleBook([rule(scope, name=scope.replace("_", "-")) for scope in ("key", "model", "key_model")])
    assert [charge.rule.scope for charge in book.charges(USAGE)] == ["key", "model", "key_model"]
    assert [charge.rule.scope for charge in book.charges(LimitedRequest("k", "o", USAGE.route))] == ["key"]


def test_request_has_one_unit() -> None:
    assert [charge.units for charge in RuleBook([rule("key")]).charges(USAGE)] == [1]


def test_units_are_the_estimate_of_the_rules_unit() -> None:
    usage = LimitedRequest("k", "team-a", "/r", "m", tokens=7, cost_microusd=0, assumed_costs={"assumed": 5})
    budget = Rule("budget", "key", "cost_usd", 100, window_seconds=60)
    assert usage.units(budget) == 0
    assert usage.units(replace(budget, name="assumed")) == 5
    assert replace(usage, cost_microusd=9).units(replace(budget, name="assumed")) == 9
    assert replace(usage, cost_microusd=9, assumed_costs={}).units(budget) == 9
    assert usage.units(Rule("tpm", "key", "tokens", 100, window_seconds=60)) == 7
    assert usage.units(Rule("rpm", "key", "requests", 100, window_seconds=60)) == 1


def test_reason_why_a_rule_does_not_apply() -> None:
    limited = Rule("r", "key", "requests", 5, window_seconds=60, routes=frozenset({"/b", "/a"}))
    by_model = Rule("r", "key", "requests", 5, window_seconds=60, models=frozenset({"y", "x"}))
    tokens = Rule("r", "key", "tokens", 5, window_seconds=60)
    assert why_not(limited, "/a", "m") is None
    assert why_not(limited, "/c", "m") == "only on /a, /b"
    assert why_not(by_model, "/a", "x") is None
    assert why_not(by_model, "/a", "m") == "only for x, y"
    assert why_not(by_model, "/a", None) == "only for x, y"
    assert why_not(tokens, "/a", "m") is None
    assert why_not(tokens, "/a", None) == "only for requests that call a model"
    assert why_not(tokens, "/v1/messages/count_tokens", "m") == "only for requests that call a model"
    assert why_not(by_model, "/v1/messages/count_tokens", "x") is None


def test_hash_tag_is_the_text_between_the_braces() -> None:
    assert [hash_tag(name) for name in ("{a}", "fbp:rl:{KeyId}:r", "x{shared}")] == ["a", "KeyId", "shared"]


def test_request_uses_no_tokens_and_no_money_unless_stated() -> None:
    usage = LimitedRequest("k", "team-a", "/r")
    assert usage.units(Rule("tpm", "key", "tokens", 100, window_seconds=60)) == 0
    assert usage.units(Rule("budget", "key", "cost_usd", 100, window_seconds=60)) == 0


@pytest.mark.parametrize(
    ("cost", "assumed", "counted"),
    [
        (7, None, 7), (7, {"r": 5}, 7), (0, None, 0), (None, None, 60), (None, {}, 0), (None, {"r": 5}, 5),
        (None, {"other": 5}, 0),
    ],
)  # fmt: skip
def test_cost_counts_as_known_assumed_or_reserved(
    cost: int | None, assumed: dict[str, int] | None, counted: int
) -> None:
    assert cost_used(Charge(limit("key"), "c", 60), cost, assumed) == counted
