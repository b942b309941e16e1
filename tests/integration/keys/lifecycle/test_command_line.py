"""`flowbiz-platform keys`."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from platform_app.auth.tokens import parse_token
from platform_app.errors import Conflict, NotFound, PlatformError, ValidationFailed
from tests.conftest import Platform
from tests.support.gateway.key_lifecycle import cli, cli_json, cli_ok, run_cli
from tests.support.gateway.keys_api import sql


def test_command_line_covers_whole_life_of_a_key(own_environment: dict[str, str]) -> None:
    url = own_environment["PLATFORM_DATABASE_URL"]
    made = cli_json(
        own_environment, "create", "--name", "billing bot", "--owner", "billing", "--scope", "platform:chat",
        "--scope", "platform:embeddings", "--model", "sim-ok", "--limit", "key-rpm=7", "--expires-in-days", "2",
    )  # fmt: skip
    key = made["api_key"]
    assert (key["scopes"], key["allowed_models"], key["limits"], key["environment"]) == (
        ["platform:chat", "platform:embeddings"], ["sim-ok"], {"key-rpm": 7}, "test",
    )  # fmt: skip
    assert made["key"].startswith(f"fbp_test_{key['key_id']}_")
    assert cli_json(own_environment, "show", key["key_id"]) == key
    assert cli_json(
        own_environment, "list", "--owner", "billing", "--status", "active", "--scope", "platform:chat"
    ) == [key]
    assert cli_json(own_environment, "list", "--status", "revoked") == []
    table = cli_ok(own_environment, "list").stdout
    assert (key["key_id"] in table, made["key"] in table) == (True, False)

    changes = ("--name", "other", "--scope", "platform:chat", "--all-models", "--no-limits", "--never-expires")
    changed = cli_json(own_environment, "update", key["key_id"], *changes)
    expected = {
        "name": "other",
        "scopes": ["platform:chat"],
        "allowed_models": None,
        "limits": None,
        "expires_at": None,
    }
    assert changed == key | expected

    rotated = cli_json(own_environment, "rotate", key["key_id"], "--grace-period-seconds", "0")
    assert (rotated["api_key"], rotated["key"] != made["key"]) == (changed, True)
    assert len(sql(url, "SELECT 1 FROM api_key_secrets")) == 1

    revoked = cli_json(own_environment, "revoke", key["key_id"], "--reason", "it leaked")
    assert (revoked["status"], revoked["revoked_reason"]) == ("revoked", "it leaked")
    events = sql(url, "SELECT * FROM audit_events ORDER BY id")
    assert [event["action"] for event in events] == [
        f"api_key.{verb}" for verb in ("create", "update", "rotate", "revoke")
    ]
    for event in events:
        assert event["actor"].startswith("cli:")
        assert event["actor"].endswith(f"@{socket.gethostname()}")
        assert (event["request_id"], event["trace_id"], event["client_address"]) == (None, None, None)


def test_command_line_prints_a_key_once(own_environment: dict[str, str]) -> None:
    created = cli_ok(own_environment, "create", "--name", "n", "--owner", "o", "--scope", "platform:chat")
    key = created.stdout.removesuffix("\n")
    key_id = key.split("_")[2]
    assert parse_token(key) is not None, "so that KEY=$(…) is the key"
    assert created.stderr.endswith(f"Store this key now: it is not shown again. Its id is {key_id}.\n")
    assert key not in created.stderr
    rotated = cli_ok(own_environment, "rotate", key_id, "--grace-period", "36h")
    assert parse_token(rotated.stdout.removesuffix("\n")) is not None
    assert "The old secret ends in 35 hours, at " in rotated.stderr
    assert key.rpartition("_")[2] not in cli_ok(own_environment, "show", key_id).stdout


REFUSED: dict[str, tuple[list[str], type[PlatformError], str]] = {
    "an unknown scope": (["create", "--name", "n", "--owner", "o", "--scope", "root"], ValidationFailed, "scopes"),
    "an unknown model": (
        ["create", "--name", "n", "--owner", "o", "--scope", "platform:chat", "--model", "nope"],
        ValidationFailed, "allowed_models",
    ),
    "an unknown rule": (
        ["create", "--name", "n", "--owner", "o", "--scope", "platform:chat", "--limit", "nope=1"],
        ValidationFailed, "limits",
    ),
    "a limit that is none": (
        ["create", "--name", "n", "--owner", "o", "--scope", "platform:chat", "--limit", "key-rpm"],
        ValidationFailed, "--limit",
    ),
    "a limit without end": (
        ["create", "--name", "n", "--owner", "o", "--scope", "platform:chat", "--limit", "key-rpm=" + "9" * 5000],
        ValidationFailed, "--limit",
    ),
    "too many days": (["update", "{id}", "--expires-in-days", "1e12"], ValidationFailed, "--expires-in-days"),
    "the past": (["update", "{id}", "--expires-in-days", "0"], ValidationFailed, "expires_at"),
    "two opposites": (["update", "{id}", "--limit", "key-rpm=1", "--no-limits"], ValidationFailed, "--no-limits"),
    "another status": (["list", "--status", "gone"], ValidationFailed, "--status"),
    "no such id": (["show", "0" * 12], NotFound, "0" * 12),
    "no id": (["rotate", "x"], NotFound, "id"),
    "an empty reason": (["revoke", "{id}", "--reason", " "], ValidationFailed, "reason"),
    "two expiries": (
        ["update", "{id}", "--expires-in", "1d", "--expires-in-days", "1"], ValidationFailed, "--expires-in",
    ),
    "two grace periods": (
        ["rotate", "{id}", "--grace-period", "1d", "--grace-period-seconds", "1"], ValidationFailed, "--grace-period",
    ),
    "no expiry to extend": (["rotate", "{id}", "--extend"], Conflict, "does not expire"),
    "a grace beyond": (["rotate", "{id}", "--grace-period-seconds", "2592001"], ValidationFailed, "grace"),
}  # fmt: skip


@pytest.fixture(scope="module")
def shared_environment(platform: Platform) -> Iterator[tuple[dict[str, str], str]]:
    """The session's environment, and the id of a key that every refused command leaves as it is."""
    record, _ = platform.new_key()
    yield dict(platform.environment), record.key_id
    assert cli_json(dict(platform.environment), "show", record.key_id) == record.plain()


@pytest.mark.parametrize("case", REFUSED)
def test_command_line_refuses_invalid_changes(shared_environment: tuple[dict[str, str], str], case: str) -> None:
    environment, key_id = shared_environment
    arguments, kind, named = REFUSED[case]
    result = cli(environment, *(argument.replace("{id}", key_id) for argument in arguments))
    assert isinstance(result.exception, kind), result
    assert named in " ".join([result.exception.message, *(result.exception.details or [])])


def test_command_line_bootstrap_and_last_administrator(own_environment: dict[str, str]) -> None:
    """Separate processes show the exit codes, and two operators who run `bootstrap` at the same time."""
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: run_cli(own_environment, "bootstrap", "--json"), range(2)))
    won, lost = sorted(results, key=lambda result: result.returncode)
    assert (won.returncode, lost.returncode) == (0, 1), results
    key_id = json.loads(won.stdout)["api_key"]["key_id"]
    assert json.loads(won.stdout)["api_key"]["scopes"] == ["platform:*"]
    assert key_id in lost.stderr
    assert (lost.stdout, "Traceback" in lost.stderr) == ("", False)

    refused = cli(own_environment, "revoke", key_id, "--reason", "a test")
    assert isinstance(refused.exception, Conflict)
    assert f"keys revoke {key_id} --force" in refused.exception.message
    forced = cli_json(own_environment, "revoke", key_id, "--reason", "a test", "--force")
    assert forced["status"] == "revoked"
    again = cli(own_environment, "revoke", key_id, "--reason", "a test", "--force")
    assert isinstance(again.exception, Conflict)
    assert cli_json(own_environment, "bootstrap")["api_key"]["status"] == "active"
