"""What a key may look like, and what an actor may do to it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.auth.key_records import Actor
from platform_app.auth.key_rules import MAX_GRACE_SECONDS, KeyRules, check_grace, check_reason
from platform_app.auth.permissions import GRANTS, Scope, covers
from platform_app.config import LimitRule
from platform_app.errors import InsufficientScope, ValidationFailed
from tests.unit.fakes import key_record

ADMIN = Actor("cli:tests")
MANAGER = Actor("key:manager", grants=frozenset({"platform:api_keys:manage", "platform:chat"}))


def rule(name: str, scope: Any, limit: int) -> LimitRule:
    return LimitRule(name=name, scope=scope, limit=limit, window_seconds=60)


RULES = KeyRules(
    [
        rule("rpm", "key", 60), rule("per-route", "key_route", 10), rule("per-model", "key_model", 5),
        rule("all", "global", 1000), rule("team", "owner", 100),
    ],
    ["gpt-4o", "sim-ok"],
)  # fmt: skip


def problems(fields: Mapping[str, Any], rules: KeyRules = RULES) -> list[str]:
    try:
        rules.check_fields(fields)
    except ValidationFailed as error:
        return error.details or ["none is named"]
    return []


FAR = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": "x", "owner": "Ä 日本"},
        {"name": "x" * 200},
        {"scopes": sorted(GRANTS)},
        {"allowed_models": None, "limits": None, "expires_at": None},
        {"allowed_models": []},
        {"allowed_models": ["sim-ok"]},
        {"limits": {}},
        {"limits": {"rpm": 1, "per-route": 1_000_000_000, "per-model": 7}},
        {"expires_at": FAR},
    ],
)
def test_fine(fields: Mapping[str, Any]) -> None:
    assert problems(fields) == []


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": ""}, "name: 1 to 200"),
        ({"name": " \u3000"}, "name: 1 to 200"),
        ({"owner": "x" * 201}, "owner: 1 to 200"),
        ({"owner": "a\x00"}, "owner: control"),
        ({"owner": "a\u202eb"}, "owner: control"),
        ({"name": "a\ud800"}, "name: control"),
        ({"scopes": []}, "scopes: at least one"),
        ({"scopes": ["platform:chat", "platform:nope"]}, "'platform:nope' does not exist"),
        ({"scopes": ["platform:chat:*"]}, "does not exist"),
        ({"scopes": ["PLATFORM:CHAT"]}, "does not exist"),
        ({"allowed_models": ["gpt-9"]}, "'gpt-9'"),
        ({"limits": {"all": 5}}, "'all' is not a rule that counts by key"),
        ({"limits": {"team": 5}}, "'team'"),
        ({"limits": {"rpm": 0}}, "limits.rpm"),
        ({"limits": {"rpm": 1_000_000_001}}, "limits.rpm"),
        ({"expires_at": datetime(2090, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"expires_at": datetime.now(UTC)}, "in the past"),
        ({"expires_at": datetime.fromisoformat("9999-12-31T23:59:59-01:00")}, "beyond the calendar"),
        ({"expires_at": datetime.fromisoformat("0001-01-01T00:00:00+01:00")}, "beyond the calendar"),
    ],
)
def test_wrong(fields: Mapping[str, Any], says: str) -> None:
    (problem,) = problems(fields)
    assert says in problem


def test_every_problem_is_named() -> None:
    wrong = {"name": "", "owner": "", "scopes": ["a", "b"], "allowed_models": ["c"], "limits": {"d": 1}}
    assert [problem.partition(":")[0] for problem in problems(wrong)] == [
        "name", "owner", "scopes", "scopes", "allowed_models", "limits",
    ]  # fmt: skip


def test_without_a_catalog_every_model_name_is_fine() -> None:
    assert problems({"allowed_models": ["anything"]}, KeyRules()) == []
    assert "there is none" in problems({"limits": {"rpm": 1}}, KeyRules())[0]


def test_messages_stay_short_whatever_is_sent() -> None:
    wrong = {"scopes": ["x" * 10_000], "allowed_models": ["y" * 10_000], "limits": {"z" * 10_000: 1}}
    assert max(map(len, problems(wrong))) < 500


# --- ceilings


def beyond(actor: Actor, fields: Mapping[str, Any]) -> list[str]:
    try:
        RULES.check_grant(actor, fields)
    except ValidationFailed as error:
        return error.details or []
    return []


def test_an_administrator_grants_anything() -> None:
    weak = replace(ADMIN, limits={"rpm": 1}, allowed_models=frozenset())
    everything = {"scopes": ["platform:*"], "limits": {"rpm": 10**9}, "allowed_models": None}
    RULES.check_grant(weak, everything)
    RULES.check_manage(weak, key_record(scopes=["platform:*"]))


@given(
    held=st.sets(st.sampled_from(sorted(GRANTS)), min_size=1),
    wanted=st.sets(st.sampled_from(sorted(GRANTS)), min_size=1),
)
def test_a_grant_never_lets_a_key_do_what_its_giver_may_not(held: set[str], wanted: set[str]) -> None:
    actor = Actor("key:x", grants=frozenset(held))
    could = {scope for scope in Scope if covers(held, scope)}
    checks: list[Callable[[], None]] = [
        lambda: RULES.check_grant(actor, {"scopes": sorted(wanted)}),
        lambda: RULES.check_manage(actor, key_record(scopes=sorted(wanted))),
    ]
    for check in checks:
        try:
            check()
        except InsufficientScope as error:
            missing = error.headers["www-authenticate"].rpartition('scope="')[2].rstrip('"')
            refused = missing in wanted and not covers(held, missing)
        else:
            refused = False
            assert {scope for scope in Scope if covers(wanted, scope)} <= could
        assert refused == any(not covers(held, grant) for grant in wanted)


@pytest.mark.parametrize(
    ("own", "limits", "above"),
    [
        ({}, {"rpm": 60}, []),
        ({}, {"rpm": 61}, ["limits.rpm: 61 is above your own limit of 60"]),
        ({}, None, []),
        ({"rpm": 50}, {"rpm": 50}, []),
        ({"rpm": 50}, {"rpm": 51}, ["limits.rpm: 51 is above your own limit of 50"]),
        ({"rpm": 50}, None, ["limits.rpm: 60, the config file's, is above your own limit of 50"]),
        ({"rpm": 50}, {}, ["limits.rpm: 60, the config file's, is above your own limit of 50"]),
        ({"rpm": 50}, {"per-route": 10}, ["limits.rpm: 60, the config file's, is above your own limit of 50"]),
        ({"rpm": 70}, None, []),
        ({"rpm": 70}, {"rpm": 70}, []),
        ({"gone": 1}, {"rpm": 60}, []),
        ({}, {"per-route": 11, "per-model": 6}, ["limits.per-route: 11", "limits.per-model: 6"]),
    ],
)
def test_limits_beyond_ones_own(own: dict[str, int], limits: dict[str, int] | None, above: list[str]) -> None:
    actor = replace(MANAGER, limits=own)
    found = beyond(actor, {"limits": limits})
    assert len(found) == len(above)
    assert all(problem.startswith(start) for problem, start in zip(found, above, strict=True))
    target = replace(key_record(), limits=limits)
    if above:
        with pytest.raises(ValidationFailed, match="manage"):
            RULES.check_manage(actor, target)
    else:
        RULES.check_manage(actor, target)


def test_a_change_that_does_not_name_limits_grants_none() -> None:
    actor = replace(MANAGER, limits={"rpm": 1}, allowed_models=frozenset())
    assert beyond(actor, {"name": "x", "scopes": ["platform:chat"]}) == []


def test_a_rule_that_is_gone_from_the_config_file_stops_nobody() -> None:
    RULES.check_manage(MANAGER, replace(key_record(), limits={"gone": 10**9}))


@pytest.mark.parametrize(
    ("own", "models", "count"),
    [
        (None, None, 0),
        (None, ["sim-ok"], 0),
        ({"gpt-4o"}, ["gpt-4o"], 0),
        ({"gpt-4o"}, [], 0),
        (set(), [], 0),
        ({"gpt-4o"}, None, 1),
        ({"gpt-4o"}, ["sim-ok", "gpt-4o"], 1),
        (set(), ["sim-ok", "gpt-4o"], 2),
        (set(), None, 1),
    ],
)
def test_models_beyond_ones_own(own: set[str] | None, models: list[str] | None, count: int) -> None:
    actor = replace(MANAGER, allowed_models=None if own is None else frozenset(own))
    found = beyond(actor, {"allowed_models": models})
    assert len(found) == count
    assert all(problem.startswith("allowed_models: ") for problem in found)
    target = key_record(allowed_models=models)
    if count:
        with pytest.raises(ValidationFailed, match="manage"):
            RULES.check_manage(actor, target)
    else:
        RULES.check_manage(actor, target)


# --- small things


@pytest.mark.parametrize("seconds", [0, 1, MAX_GRACE_SECONDS])
def test_grace(seconds: int) -> None:
    check_grace(seconds)


@pytest.mark.parametrize("seconds", [-1, MAX_GRACE_SECONDS + 1])
def test_no_grace(seconds: int) -> None:
    with pytest.raises(ValidationFailed):
        check_grace(seconds)


@pytest.mark.parametrize("reason", ["", " ", "\n", "a\nb", "x" * 201])
def test_no_reason(reason: str) -> None:
    with pytest.raises(ValidationFailed):
        check_reason(reason)


def test_a_reason() -> None:
    check_reason("it leaked: see https://example.org/1 (Ümlaut)")


def test_an_expiry_just_ahead_is_fine() -> None:
    assert problems({"expires_at": datetime.now(UTC) + timedelta(seconds=5)}) == []
