"""What a key may look like, and what an actor may do to it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.auth.keys.records import KeyChanges, KeyRecord, NewKey
from platform_app.auth.keys.rules import (
    MAX_GRACE_SECONDS,
    POWERLESS,
    KeyRules,
    check_grace,
    check_reason,
    weakens_admin,
)
from platform_app.auth.permissions import GRANTS, Scope, covers
from platform_app.config import LimitRule
from platform_app.db.models import ApiKey
from platform_app.errors import InsufficientScope, ValidationFailed
from tests.support.fakes.core import key_record

ADMIN = key_record(scopes=["platform:*"])
MANAGER = key_record(scopes=["platform:api_keys:manage", "platform:chat"])


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


SOON = datetime(2090, 1, 1, tzinfo=UTC)
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
def test_valid_fields_are_accepted(fields: Mapping[str, Any]) -> None:
    assert problems(fields) == []


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": ""}, "name: must have 1 to 200"),
        ({"name": " \u3000"}, "name: must have 1 to 200"),
        ({"owner": "x" * 201}, "owner: must have 1 to 200"),
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
        ({"expires_at": datetime.fromisoformat("9999-12-31T23:59:59-01:00")}, "later than the calendar allows"),
        ({"expires_at": datetime.fromisoformat("0001-01-01T00:00:00+01:00")}, "later than the calendar allows"),
    ],
)
def test_invalid_field_is_refused(fields: Mapping[str, Any], says: str) -> None:
    (problem,) = problems(fields)
    assert says in problem


def test_every_invalid_field_is_named() -> None:
    wrong = {"name": "", "owner": "", "scopes": ["a", "b"], "allowed_models": ["c"], "limits": {"d": 1}}
    assert [problem.partition(":")[0] for problem in problems(wrong)] == [
        "name", "owner", "scopes", "scopes", "allowed_models", "limits",
    ]  # fmt: skip


def test_any_model_is_valid_without_catalog() -> None:
    assert problems({"allowed_models": ["anything"]}, KeyRules()) == []
    assert "rules that do: none" in problems({"limits": {"rpm": 1}}, KeyRules())[0]


def test_messages_are_short_for_any_input() -> None:
    wrong = {"scopes": ["x" * 10_000], "allowed_models": ["y" * 10_000], "limits": {"z" * 10_000: 1}}
    assert max(map(len, problems(wrong))) < 500


# --- ceilings


def beyond(holder: KeyRecord | None, fields: Mapping[str, Any]) -> list[str]:
    try:
        RULES.check_grant(holder, fields)
    except ValidationFailed as error:
        return error.details or []
    return []


def test_administrator_may_grant_anything() -> None:
    weak = replace(ADMIN, limits={"rpm": 1}, allowed_models=[], expires_at=SOON)
    everything = {"scopes": ["platform:*"], "limits": {"rpm": 10**9}, "allowed_models": None, "expires_at": None,
                  "owner": "another", "environment": "live", "of tomorrow": 1}  # fmt: skip
    for holder in (weak, None):  # None: the operator at the command line
        RULES.check_grant(holder, everything)
        RULES.check_manage(holder, key_record(scopes=["platform:*"], owner="another"))


@given(
    held=st.sets(st.sampled_from(sorted(GRANTS)), min_size=1),
    wanted=st.sets(st.sampled_from(sorted(GRANTS)), min_size=1),
)
def test_grant_never_exceeds_the_actors_rights(held: set[str], wanted: set[str]) -> None:
    actor = key_record(scopes=sorted(held))
    could = {scope for scope in Scope if covers(held, scope)}
    checks: list[Callable[[], None]] = [
        lambda: RULES.check_grant(actor, {"scopes": sorted(wanted)}),
        lambda: RULES.check_manage(actor, key_record(scopes=sorted(wanted))),
    ]
    for check in checks:
        try:
            check()
        except InsufficientScope as error:
            missing = error.scope
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
def test_limits_above_the_actors_are_refused(
    own: dict[str, int], limits: dict[str, int] | None, above: list[str]
) -> None:
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


def test_change_without_limits_grants_no_limits() -> None:
    actor = replace(MANAGER, limits={"rpm": 1}, allowed_models=[])
    assert beyond(actor, {"name": "x", "scopes": ["platform:chat"]}) == []


def test_removed_rule_refuses_no_change() -> None:
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
def test_models_beyond_the_actors_are_refused_by_rules(
    own: set[str] | None, models: list[str] | None, count: int
) -> None:
    actor = replace(MANAGER, allowed_models=None if own is None else sorted(own))
    found = beyond(actor, {"allowed_models": models})
    assert len(found) == count
    assert all(problem.startswith("allowed_models: ") for problem in found)
    target = key_record(allowed_models=models)
    if count:
        with pytest.raises(ValidationFailed, match="manage"):
            RULES.check_manage(actor, target)
    else:
        RULES.check_manage(actor, target)


SECOND = timedelta(seconds=1)
ELSEWHERE = timezone(timedelta(hours=5))


@pytest.mark.parametrize(
    ("own", "wanted", "says"),
    [
        (None, None, ""),
        (None, SOON, ""),
        (SOON, SOON, ""),
        (SOON, SOON - SECOND, ""),
        (SOON, SOON.astimezone(ELSEWHERE), ""),
        (SOON, SOON + SECOND, "expires_at: 2090-01-01T00:00:01+00:00 is too late"),
        (SOON, FAR, "is too late; your own key expires at 2090-01-01T00:00:00+00:00"),
        (SOON, None, "expires_at: without it a key does not expire"),
    ],
)
def test_expiry_after_the_actors_is_refused(own: datetime | None, wanted: datetime | None, says: str) -> None:
    holder, target = replace(MANAGER, expires_at=own), key_record(expires_at=wanted)
    found = beyond(holder, {"expires_at": wanted})
    assert bool(found) == bool(says)
    if not says:
        RULES.check_manage(holder, target)
        return
    assert says in found[0]
    with pytest.raises(ValidationFailed, match="manage"):
        RULES.check_manage(holder, target)


@pytest.mark.parametrize("owner", ["team-b", "Team-a", "team-a ", " team-a", "team-\u0430", ""])
def test_other_owner_is_refused(owner: str) -> None:
    (found,) = beyond(MANAGER, {"owner": owner})
    assert found.startswith("owner: ")
    assert "'team-a'" in found
    with pytest.raises(ValidationFailed, match="manage"):
        RULES.check_manage(MANAGER, key_record(owner=owner))
    assert beyond(MANAGER, {"owner": "team-a"}) == []


def test_other_environment_is_refused() -> None:
    (found,) = beyond(MANAGER, {"environment": "live"})
    assert found.startswith("environment: ")
    with pytest.raises(ValidationFailed, match="manage"):
        RULES.check_manage(replace(MANAGER, environment="live"), key_record())


# One value beyond MANAGER for each attribute that gives power. An attribute that is added to a key must be added here
# or to POWERLESS, and compared in key_rules.py.
BEYOND: Mapping[str, Any] = {
    "owner": "team-b",
    "scopes": ["platform:*"],
    "environment": "live",
    "allowed_models": None,
    "limits": {"rpm": 61},
    "expires_at": None,
}
WITHIN: Mapping[str, Any] = {
    "owner": "team-a",
    "scopes": ["platform:chat"],
    "environment": "test",
    "allowed_models": ["sim-ok"],
    "limits": {"rpm": 60},
    "expires_at": SOON,
}
NARROW = replace(MANAGER, allowed_models=["sim-ok"], expires_at=SOON)


def test_every_key_attribute_is_compared_or_powerless() -> None:
    """Each attribute of the table, the record, a new key and a change is listed in `BEYOND` or `POWERLESS`."""
    assert not set(BEYOND) & POWERLESS
    decided = set(BEYOND) | POWERLESS
    assert set(ApiKey.__table__.columns.keys()) == set(KeyRecord.__dataclass_fields__) == decided
    assert set(NewKey.__dataclass_fields__) == set(BEYOND) | {"name"}
    assert set(KeyChanges.__dataclass_fields__) <= decided


@pytest.mark.parametrize("name", BEYOND)
def test_each_exceeding_attribute_is_refused_alone(name: str) -> None:
    RULES.check_grant(NARROW, WITHIN)
    RULES.check_manage(NARROW, replace(key_record(), **WITHIN))
    with pytest.raises((ValidationFailed, InsufficientScope)):
        RULES.check_grant(NARROW, {name: BEYOND[name]})
    with pytest.raises((ValidationFailed, InsufficientScope)):
        RULES.check_manage(NARROW, replace(key_record(), **{**WITHIN, name: BEYOND[name]}))


def test_attribute_without_comparison_is_refused() -> None:
    assert beyond(MANAGER, {"of tomorrow": 1}) == ["of tomorrow: only an administrator's key may give or manage this"]


@pytest.mark.parametrize(
    ("end", "changes", "weakens"),
    [
        (None, {"scopes": ["platform:chat"]}, True),
        (None, {"scopes": ["platform:*", "platform:chat"]}, False),
        (None, {"expires_at": FAR}, True),
        (None, {"expires_at": None, "name": "x"}, False),
        (SOON, {"expires_at": SOON - SECOND}, True),
        (SOON, {"expires_at": SOON}, False),
        (SOON, {"expires_at": FAR}, False),
        (SOON, {"expires_at": None}, False),
        (SOON, {"scopes": ["platform:chat"]}, True),
        (datetime(2020, 1, 1, tzinfo=UTC), {"scopes": ["platform:chat"]}, False),
    ],
)
def test_administrator_is_weakened(end: datetime | None, changes: Mapping[str, Any], weakens: bool) -> None:
    assert weakens_admin(key_record(scopes=["platform:*"], expires_at=end), changes) is weakens
    assert not weakens_admin(key_record(expires_at=end), changes)


# --- small things


@pytest.mark.parametrize("seconds", [0, 1, MAX_GRACE_SECONDS])
def test_valid_grace_period_is_accepted(seconds: int) -> None:
    check_grace(seconds)


@pytest.mark.parametrize("seconds", [-1, MAX_GRACE_SECONDS + 1])
def test_invalid_grace_is_refused(seconds: int) -> None:
    with pytest.raises(ValidationFailed):
        check_grace(seconds)


@pytest.mark.parametrize("reason", ["", " ", "\n", "a\nb", "x" * 201])
def test_empty_reason_is_refused(reason: str) -> None:
    with pytest.raises(ValidationFailed):
        check_reason(reason)


def test_reason_is_accepted() -> None:
    check_reason("it leaked: see https://example.org/1 (Ümlaut)")


def test_expiry_soon_is_accepted() -> None:
    assert problems({"expires_at": datetime.now(UTC) + timedelta(seconds=5)}) == []
