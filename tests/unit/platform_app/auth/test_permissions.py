"""Scopes and grants: deny by default."""

import pytest

from platform_app.auth.caller import Caller
from platform_app.auth.permissions import ALL, GRANTS, Scope, covers, unknown_grants


@pytest.mark.parametrize("scope", list(Scope))
def test_scope_covers_only_itself(scope: Scope) -> None:
    assert [other for other in Scope if covers({scope}, other)] == [scope]


@pytest.mark.parametrize("scope", list(Scope))
def test_administrators_grant_covers_every_scope(scope: Scope) -> None:
    assert covers({ALL}, scope)


@pytest.mark.parametrize("scope", list(Scope))
def test_empty_grants_cover_nothing(scope: Scope) -> None:
    assert not covers((), scope)


def test_wildcard_covers_only_its_group() -> None:
    covered = [scope for scope in Scope if covers({"platform:api_keys:*"}, scope)]
    assert covered == [Scope.API_KEYS_READ, Scope.API_KEYS_MANAGE]


@pytest.mark.parametrize(
    ("grant", "scope"),
    [
        ("platform:api_keys:*", "platform:api_keys_more:read"),
        ("platform:api_keys:*", "platform:*"),
        ("platform:api_keys:*", "platform:api_keys"),
        ("platform:chat", "platform:chat:*"),
        ("platform:chat", "platform:chatter"),
        ("*", "platform:chat"),
        ("PLATFORM:CHAT", "platform:chat"),
        ("", "platform:chat"),
    ],
)
def test_similar_scope_is_not_covered(grant: str, scope: str) -> None:
    assert not covers({grant}, scope)


def test_wider_grant_covers_narrower_grant() -> None:
    assert covers({ALL}, "platform:api_keys:*")
    assert covers({"platform:api_keys:*"}, "platform:api_keys:*")


def test_every_grant_covers_at_least_one_scope() -> None:
    assert [grant for grant in GRANTS if not any(covers({grant}, scope) for scope in Scope)] == []


def test_unknown_grants_are_named_once_and_sorted() -> None:
    assert unknown_grants([*Scope, ALL, "platform:audit:*"]) == []
    assert unknown_grants(["platform:zzz", "admin", "platform:chat", "admin"]) == ["admin", "platform:zzz"]
    # A wildcard over a single scope's name would grant nothing and look as if it did.
    assert unknown_grants(["platform:chat:*"]) == ["platform:chat:*"]


def test_caller_may_use_granted_scopes() -> None:
    caller = Caller("k", "n", "o", "test", frozenset({"platform:api_keys:*"}), frozenset({"gpt-4o"}))
    assert caller.may(Scope.API_KEYS_READ)
    assert not caller.may(Scope.CHAT)
    assert caller.may_use("gpt-4o")
    assert not caller.may_use("gpt-4o-mini")
    assert Caller("k", "n", "o", "test", frozenset()).may_use("anything")
    assert not Caller("k", "n", "o", "test", frozenset(), frozenset()).may_use("gpt-4o")
