"""What a config file adds to the rules of keys, and what the messages say: owners, limits, texts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from platform_app.auth.keys import rules as rules_module
from platform_app.auth.keys.rules import MAX_GRACE_SECONDS, KeyRules, check_grace, check_reason
from platform_app.config import LimitRule
from platform_app.errors import ValidationFailed
from tests.support.fakes.core import Count, key_record

OWNERS = ["payments", "search"]
API_KEY = "fbp_test_" + "a1B2c3D4e5F6_" + "x" * 43


def problems(rules: KeyRules, **fields: Any) -> list[str]:
    try:
        rules.check_fields(fields)
    except ValidationFailed as error:
        return error.details or ["none is named"]
    return []


def rule(name: str, scope: Any) -> LimitRule:
    return LimitRule(name=name, scope=scope, limit=10, window_seconds=60)


def test_owner_is_one_of_the_config_file() -> None:
    rules = KeyRules((), None, OWNERS)
    where = "is not among the owners of the config file"
    assert problems(rules, owner="payments") == []
    assert problems(rules, name="n") == []
    assert problems(rules, owner="paymnts") == [f"owner: 'paymnts' {where}; did you mean 'payments'?"]
    assert problems(rules, owner="xyz") == [f"owner: 'xyz' {where}; add it there, or use one of them"]
    assert problems(rules, owner="") == ["owner: must have 1 to 200 characters"]


def test_reloaded_config_replaces_owners_limits_and_models() -> None:
    rules = KeyRules([rule("rpm", "key"), rule("team", "owner")], ["small"], OWNERS)
    assert problems(rules, limits={"rpm": 5}) == []
    [problem] = problems(rules, limits={"team": 5})
    assert problem == "limits: 'team' is not a rule that counts by key; rules that do: rpm"
    assert problems(rules, allowed_models=["big"]) == ["allowed_models: there is no model 'big' in the catalog"]
    rules.replace([rule("new", "key_model")], ["big"])
    assert problems(rules, owner="xyz", allowed_models=["big"], limits={"new": 5}) == []
    assert problems(rules, limits={"rpm": 5}) == ["limits: 'rpm' is not a rule that counts by key; rules that do: new"]
    rules.replace([], None)
    assert problems(rules, limits={"new": 5}) == ["limits: 'new' is not a rule that counts by key; rules that do: none"]


@pytest.mark.parametrize(
    ("text", "valid"),
    [("x" * 200, True), ("x" * 201, False), (" " * 199 + "x", True), (" " * 200 + "x", False), (" ", False)],
)
def test_text_has_at_most_200_characters(text: str, valid: bool) -> None:
    assert problems(KeyRules(), name=text) == ([] if valid else ["name: must have 1 to 200 characters"])


def test_api_key_in_a_text_is_refused_and_counted() -> None:
    misplaced = Count("platform_misplaced_credentials_total", field="name")
    assert problems(KeyRules(), name=f"key {API_KEY}") == [
        "name: holds an API key, and this text is stored and shown; leave the key out"
    ]
    assert misplaced.grown == 1
    with pytest.raises(ValidationFailed) as caught:
        check_reason(API_KEY)
    assert API_KEY not in str(caught.value.details)


def test_missing_scopes_are_listed() -> None:
    [problem] = problems(KeyRules(), scopes=[])
    assert problem.startswith("scopes: at least one is required, of platform:*, platform:api_keys:*, ")


@pytest.mark.parametrize(("own", "listed"), [(["b", "a"], "a, b"), ([], "none")])
def test_own_models_are_listed(own: list[str], listed: str) -> None:
    holder = key_record(scopes=["platform:api_keys:manage"], allowed_models=own)
    with pytest.raises(ValidationFailed) as caught:
        KeyRules().check_grant(holder, {"allowed_models": None})
    assert caught.value.details == [f"allowed_models: without it every model is allowed; you may use only {listed}"]


def test_grace_period_lasts_at_most_thirty_days() -> None:
    assert MAX_GRACE_SECONDS == 2_592_000
    check_grace(2_592_000)
    with pytest.raises(ValidationFailed):
        check_grace(2_592_001)


def test_expiry_at_this_very_moment_is_in_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is expired at its `expires_at`, so such a key would never work."""
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    assert key_record(expires_at=moment).status(moment) == "expired"

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return moment

    monkeypatch.setattr(rules_module, "datetime", Stopped)
    assert problems(KeyRules(), expires_at=moment) == ["expires_at: is in the past; to end a key now, revoke it"]
    assert problems(KeyRules(), expires_at=moment + timedelta(microseconds=1)) == []
