"""Owners in `check`: those with keys, those that are declared, and those that look misspelt."""

import pytest
from structlog.testing import capture_logs

from platform_app.auth.keys.rules import KeyRules
from platform_app.config import PlatformConfig
from platform_app.errors import ValidationFailed
from platform_app.resources import owner_checks as module
from platform_app.resources.owner_checks import MAX_LINES, OwnerWarnings, owner_checks


def config(*owners: str) -> PlatformConfig:
    return PlatformConfig.model_validate(
        {
            "providers": {"sim": {"base_url": "http://x/v1"}},
            "models": {"m": {"routes": [{"provider": "sim", "model": "m"}]}},
            "rate_limits": {"rules": [{"name": "owner-rpm", "scope": "owner", "limit": 5, "window_seconds": 60}]},
            **({"owners": owners} if owners else {}),
        }
    )


def warnings(found: PlatformConfig, keys: dict[str, int]) -> list[str]:
    return [f"{check.name}: {check.detail}" for check in owner_checks(found, keys) if not check.ok]


def test_owners_are_listed_with_their_limits() -> None:
    first, *rest = owner_checks(config(), {"payments": 2, "search": 1})
    assert (first.ok, rest) == (True, [])
    assert first.detail == "payments (2 keys), search (1 key); each has the limits owner-rpm"


def test_undeclared_owners_that_resemble_others_are_warnings() -> None:
    [warning] = warnings(config(), {"payments": 1, "paymnts": 1, "team-a": 1, "team-b": 1, "squad 1": 1, "squad 2": 1})
    assert warning.startswith("owner paymnts: resembles the owner 'payments'; ")


def test_declared_owners_are_compared_with_keys() -> None:
    assert warnings(config("payments", "search"), {"payments": 3, "serach": 1}) == [
        "owner search: is under owners in the config file and has no active key; did you mean 'serach'?",
        "owner serach: has 1 active keys and is not under owners in the config file; did you mean 'search'?",
    ]


def test_key_for_undeclared_owner_is_refused() -> None:
    rules = KeyRules(owners=["payments"])
    rules.check_fields({"owner": "payments"})
    with pytest.raises(ValidationFailed) as caught:
        rules.check_fields({"owner": "paymnts"})
    assert caught.value.details == [
        "owner: 'paymnts' is not among the owners of the config file; did you mean 'payments'?"
    ]
    KeyRules().check_fields({"owner": "paymnts"})


async def test_each_owner_warning_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: dict[str, int] | None = {"paymnts": 1}

    async def active_owners(_: object) -> dict[str, int] | None:
        return keys

    monkeypatch.setattr(module, "active_owners", active_owners)
    logged = OwnerWarnings(None)  # type: ignore[arg-type]  # the engine is only handed on

    async def names(found: PlatformConfig) -> list[str]:
        with capture_logs() as lines:
            await logged.log(found)
        assert {line["event"] for line in lines} <= {"owner_name_suspected"}
        return [line["owner"] for line in lines]

    assert await names(config()) == []
    assert await names(config("payments")) == ["payments", "paymnts"]
    assert await names(config("payments")) == []
    assert await names(config("payments", "search")) == ["search"]
    assert await names(config("paymnts")) == []
    assert await names(config("payments")) == ["payments", "paymnts"]
    keys = None
    assert await names(config("payments")) == []


async def test_of_many_warnings_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The misspelt name in the file comes before those of the keys."""

    async def active_owners(_: object) -> dict[str, int]:
        return {f"team-{number}": 1 for number in range(MAX_LINES + 4)}

    monkeypatch.setattr(module, "active_owners", active_owners)
    with capture_logs() as lines:
        await OwnerWarnings(None).log(config("paymnts"))  # type: ignore[arg-type]  # the engine is only handed on
    *owners, rest = lines
    assert [line["owner"] for line in owners] == ["paymnts", *(f"team-{number}" for number in range(MAX_LINES - 1))]
    assert (rest["event"], rest["count"]) == ("owner_warnings_left_out", 5)
