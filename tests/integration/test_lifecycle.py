"""What decides about administrators, peppers and the command line, each test on a database of its own."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from apps.platform_cli.main import app
from platform_app.auth.authenticator import Authenticator, AuthPolicy, SecretPeppers
from platform_app.auth.cache import KeyCache
from platform_app.auth.key_records import Actor, KeyChanges, KeyRecord, NewKey
from platform_app.auth.keys import KeyStore
from platform_app.auth.pepper import Peppers, parse_peppers
from platform_app.auth.tokens import Token
from platform_app.config import load_settings
from platform_app.db import migrations
from platform_app.db.engine import make_engine
from platform_app.errors import Conflict, InsufficientScope, InvalidApiKey, NotFound, PlatformError, ValidationFailed
from platform_app.resources import KeyAdmin, open_key_admin
from platform_app.secret_store.env import EnvSecretStore
from tests.conftest import Platform
from tests.support.gateway import Gateway
from tests.support.keys_api import Api, sql

ONE, TWO = "1a" * 32, "2b" * 32
BOTH = f"2:{TWO},1:{ONE}"
"""The first is for new secrets."""
OPERATOR = Actor("tests")


@pytest.fixture
def own_database(empty_database: str) -> str:
    """A database at head, without any key."""
    migrations.upgrade(empty_database)
    return empty_database


class Keys:
    """The lifecycle on that database, for somebody at the command line."""

    def __init__(self, admin: KeyAdmin) -> None:
        self.admin = admin
        self.peppers: Peppers = parse_peppers("PEPPER", ONE)

    async def new(self, *scopes: str, **fields: Any) -> tuple[KeyRecord, Token]:
        new = NewKey("a test", "tests", list(scopes) or ["platform:chat"], "test", **fields)
        return await self.admin.lifecycle.create(new, self.peppers, OPERATOR)

    async def new_admin(self, **fields: Any) -> Actor:
        """An administrator's key as an actor."""
        record, _ = await self.new("platform:*", **fields)
        return Actor(f"key:{record.key_id}")

    async def bootstrap(self) -> KeyRecord:
        new = NewKey("first", "operations", ["platform:*"], "test")
        return (await self.admin.lifecycle.bootstrap(new, self.peppers, Actor("cli:tests")))[0]

    async def revoke(self, actor: Actor, *, force: bool = False) -> KeyRecord:
        """An actor revokes its own key."""
        return await self.admin.lifecycle.revoke(id_of(actor), "a test", actor, force=force)

    async def admins(self) -> list[str]:
        """The ids of the active ones."""
        page = await self.admin.keys.list()
        return sorted(key.key_id for key in page.keys if "platform:*" in key.scopes and key.status() == "active")


def id_of(actor: Actor) -> str:
    return actor.name.removeprefix("key:")


@asynccontextmanager
async def keys_at(url: str) -> AsyncIterator[Keys]:
    settings = load_settings(database_url=url, redis_url="redis://127.0.0.1:1/0", env="dev", database_pool_size=20)
    async with open_key_admin(settings, EnvSecretStore({"PLATFORM_API_KEY_PEPPER": ONE})) as admin:
        yield Keys(admin)


@pytest.fixture
async def keys(own_database: str) -> AsyncIterator[Keys]:
    async with keys_at(own_database) as opened:
        yield opened


# --- the last administrator


async def test_the_last_administrator_cannot_revoke_itself(keys: Keys) -> None:
    first, second = await keys.new_admin(), await keys.new_admin()
    await keys.revoke(first)
    with pytest.raises(Conflict, match="last administrator") as caught:
        await keys.revoke(second)
    assert "--force" in caught.value.message
    assert await keys.admins() == [id_of(second)]
    await keys.revoke(second, force=True)
    assert await keys.admins() == []


ENDED = ("revoked", "expired", "another scope", "a prefix wildcard")


@pytest.mark.parametrize("other", ENDED)
async def test_a_key_that_is_no_administrator_any_more_does_not_count(
    keys: Keys, own_database: str, other: str
) -> None:
    last = await keys.new_admin()
    match other:
        case "revoked":
            await keys.revoke(await keys.new_admin())
        case "expired":
            ended = await keys.new_admin()
            sql(own_database, "UPDATE api_keys SET expires_at = now() WHERE key_id = :id", id=id_of(ended))
        case "another scope":
            await keys.new("platform:api_keys:manage", "platform:chat")
        case _:
            await keys.new("platform:api_keys:*")
    with pytest.raises(Conflict, match="last administrator"):
        await keys.revoke(last)
    assert await keys.admins() == [id_of(last)]


@pytest.mark.parametrize(
    "changes",
    [
        KeyChanges(scopes=["platform:chat"]),
        KeyChanges(scopes=["platform:api_keys:*", "platform:chat"]),
        KeyChanges(expires_at=datetime.now(UTC) + timedelta(days=1)),
        KeyChanges(name="x", scopes=["platform:chat"]),
    ],
    ids=["other scopes", "a prefix wildcard", "an expiry", "among others"],
)
async def test_the_last_administrator_cannot_lose_that_by_an_update(keys: Keys, changes: KeyChanges) -> None:
    last = await keys.new_admin()
    before = await keys.admin.keys.get(id_of(last))
    for actor in (last, OPERATOR):
        with pytest.raises(Conflict, match="last administrator"):
            await keys.admin.lifecycle.update(id_of(last), changes, actor)
    assert await keys.admin.keys.get(id_of(last)) == before
    await keys.new_admin()
    await keys.admin.lifecycle.update(id_of(last), changes, last)


async def test_the_last_administrator_may_be_changed_otherwise(keys: Keys) -> None:
    last = await keys.new_admin()
    changes = KeyChanges(name="other", owner="other", scopes=["platform:*", "platform:chat"], allowed_models=[],
                         limits=None, expires_at=None)  # fmt: skip
    changed = await keys.admin.lifecycle.update(id_of(last), changes, last)
    assert (changed.name, changed.scopes) == ("other", ["platform:*", "platform:chat"])
    await keys.admin.lifecycle.rotate(id_of(last), 0, keys.peppers, last)
    assert await keys.admins() == [id_of(last)]


async def _revoke(keys: Keys, actor: Actor) -> object:
    return await keys.revoke(actor)


async def _demote(keys: Keys, actor: Actor) -> object:
    return await keys.admin.lifecycle.update(id_of(actor), KeyChanges(scopes=["platform:chat"]), actor)


@pytest.mark.parametrize("ways", [(_revoke, _revoke), (_demote, _demote), (_revoke, _demote)])
async def test_of_two_last_administrators_that_go_at_the_same_time_one_stays(keys: Keys, ways: Any) -> None:
    for _ in range(10):
        pair = await keys.new_admin(), await keys.new_admin()
        outcomes = await asyncio.gather(
            *(way(keys, actor) for way, actor in zip(ways, pair, strict=True)), return_exceptions=True
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "KeyRecord"]
        (left,) = await keys.admins()
        await keys.admin.lifecycle.revoke(left, "a test", OPERATOR, force=True)


async def test_of_ten_administrators_that_go_at_the_same_time_one_stays(keys: Keys) -> None:
    actors = [await keys.new_admin() for _ in range(10)]
    outcomes = await asyncio.gather(*map(keys.revoke, actors), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict"] + ["KeyRecord"] * 9
    assert len(await keys.admins()) == 1


async def test_two_that_revoke_each_other_leave_one(keys: Keys) -> None:
    for _ in range(10):
        one, two = await keys.new_admin(), await keys.new_admin()
        revoke = keys.admin.lifecycle.revoke
        outcomes = await asyncio.gather(
            revoke(id_of(two), "a test", one), revoke(id_of(one), "a test", two), return_exceptions=True
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "KeyRecord"]
        (left,) = await keys.admins()
        await revoke(left, "a test", OPERATOR, force=True)


# --- bootstrap


async def test_bootstrap_is_refused_as_long_as_an_administrator_is_active(keys: Keys, own_database: str) -> None:
    await keys.new("platform:api_keys:*", "platform:chat")  # no administrator
    first = await keys.bootstrap()
    assert first.scopes == ["platform:*"]
    with pytest.raises(Conflict, match=first.key_id):
        await keys.bootstrap()
    await keys.admin.lifecycle.revoke(first.key_id, "a test", OPERATOR, force=True)
    second = await keys.bootstrap()
    sql(own_database, "UPDATE api_keys SET expires_at = now() WHERE key_id = :id", id=second.key_id)
    third = await keys.bootstrap()
    assert await keys.admins() == [third.key_id]


async def test_of_ten_bootstraps_at_the_same_time_one_wins(keys: Keys) -> None:
    outcomes = await asyncio.gather(*(keys.bootstrap() for _ in range(10)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict"] * 9 + ["KeyRecord"]
    assert len(await keys.admins()) == 1


# --- peppers


async def test_a_new_secret_is_kept_under_the_first_pepper(keys: Keys, own_database: str) -> None:
    record, _ = await keys.new()
    keys.peppers = parse_peppers("PEPPER", BOTH)
    _, token = await keys.admin.lifecycle.rotate(record.key_id, 60, keys.peppers, OPERATOR)
    rows = sql(own_database, "SELECT pepper_version, not_after, digest FROM api_key_secrets ORDER BY created_at")
    assert [(row["pepper_version"], row["not_after"] is None) for row in rows] == [(1, False), (2, True)]
    assert rows[1]["digest"] == keys.peppers.digest(token.text, 2)


async def test_only_secrets_that_count_are_counted(keys: Keys, own_database: str) -> None:
    record, _ = await keys.new()
    keys.peppers = parse_peppers("PEPPER", BOTH)
    assert await keys.admin.keys.secrets_by_pepper() == {1: 1}
    await keys.admin.lifecycle.rotate(record.key_id, 60, keys.peppers, OPERATOR)
    assert await keys.admin.keys.secrets_by_pepper() == {1: 1, 2: 1}
    sql(own_database, "UPDATE api_key_secrets SET not_after = now() WHERE not_after IS NOT NULL")
    assert await keys.admin.keys.secrets_by_pepper() == {2: 1}
    await keys.admin.lifecycle.revoke(record.key_id, "a test", OPERATOR)
    assert await keys.admin.keys.secrets_by_pepper() == {}


@pytest.fixture
def own_environment(own_database: str, platform: Platform) -> dict[str, str]:
    pepper = {"PLATFORM_API_KEY_PEPPER": f"1:{ONE}"}
    return {**platform.environment, "PLATFORM_DATABASE_URL": own_database, **pepper}


@asynccontextmanager
async def verifier(url: str, peppers: str) -> AsyncIterator[Callable[[str], Awaitable[int]]]:
    """What a gateway with these peppers would answer to a key; it remembers nothing between two requests."""
    engine = make_engine(load_settings(database_url=url, redis_url="redis://127.0.0.1:1/0", env="dev"))
    secrets = SecretPeppers(EnvSecretStore({"PEPPER": peppers}), "PEPPER")
    authenticator = Authenticator(KeyStore(engine), secrets, KeyCache(10), AuthPolicy(ttl=0, stale=0))

    async def status(key: str) -> int:
        try:
            await authenticator.authenticate(key)
        except InvalidApiKey:
            return 401
        return 200

    try:
        yield status
    finally:
        await engine.dispose()


async def test_a_rotation_of_the_pepper(own_environment: dict[str, str], keys: Keys) -> None:
    """Old pepper, both, new one: what was used meanwhile works on, and only that."""
    url, new = own_environment["PLATFORM_DATABASE_URL"], f"2:{TWO}"

    async def counts(peppers: str) -> str:
        environment = {**own_environment, "PLATFORM_API_KEY_PEPPER": peppers}
        return (await asyncio.to_thread(cli_ok, environment, "peppers")).stdout

    (_, used), (_, idle), (rotated, first) = [await keys.new() for _ in range(3)]
    _, second = await keys.admin.lifecycle.rotate(rotated.key_id, 300, keys.peppers, OPERATOR)
    active = [used.text, first.text, second.text]

    assert await counts(f"1:{ONE}") == "version 1: 4 secrets, current\n"
    async with verifier(url, f"1:{ONE},2:{TWO}") as status:  # every instance must know it before one uses it
        assert [await status(key) for key in active] == [200] * 3
    assert await counts(BOTH) == "version 1: 4 secrets, live\nversion 2: 0 secrets, current\n"
    async with verifier(url, BOTH) as status:
        for _ in range(2):
            assert [await status(key) for key in active] == [200] * 3
    assert await counts(BOTH) == "version 1: 1 secrets, live\nversion 2: 3 secrets, current\n"
    assert "version 1: 1 secrets, NOT CONFIGURED: these keys fail\n" in await counts(new)
    async with verifier(url, new) as status:
        assert [await status(key) for key in [*active, idle.text]] == [200, 200, 200, 401]
    async with verifier(url, f"1:{ONE}") as status:
        assert [await status(key) for key in [*active, idle.text]] == [401, 401, 401, 200]


async def test_a_grace_period_outlives_a_rotation_of_the_pepper(own_environment: dict[str, str], keys: Keys) -> None:
    url = own_environment["PLATFORM_DATABASE_URL"]
    record, old = await keys.new()
    await keys.admin.lifecycle.rotate(record.key_id, 1, keys.peppers, OPERATOR)
    async with verifier(url, BOTH) as status, asyncio.timeout(5):
        assert await status(old.text) == 200
        while await status(old.text) == 200:
            pass
    left = sql(url, "SELECT pepper_version FROM api_key_secrets WHERE not_after <= now()")
    assert left == [{"pepper_version": 2}], "stored anew, and ended all the same"


async def test_fifty_first_uses_at_once_store_a_secret_anew_once(own_environment: dict[str, str], keys: Keys) -> None:
    url = own_environment["PLATFORM_DATABASE_URL"]
    _, token = await keys.new()
    async with verifier(url, BOTH) as one, verifier(url, BOTH) as two:
        statuses = await asyncio.gather(*(status(token.text) for status in (one, two) for _ in range(25)))
        assert statuses == [200] * 50
        assert await one(token.text) == 200
    assert sql(url, "SELECT pepper_version FROM api_key_secrets") == [{"pepper_version": 2}]


# --- the command line


def cli(environment: dict[str, str], *arguments: str) -> Result:
    """`flowbiz-platform keys …` in this process; expected failures come back as `exception`."""
    unset = {name: None for name in os.environ if name.startswith("PLATFORM_")}
    return CliRunner().invoke(app, ["keys", *arguments], env={**unset, **environment})


def cli_ok(environment: dict[str, str], *arguments: str) -> Result:
    result = cli(environment, *arguments)
    assert result.exception is None, result
    assert result.exit_code == 0
    return result


def cli_json(environment: dict[str, str], *arguments: str) -> Any:
    return json.loads(cli_ok(environment, *arguments, "--json").stdout)


def run_cli(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The same in a process of its own."""
    command = [sys.executable, "-m", "apps.platform_cli", "keys", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_whole_life_of_a_key_at_the_command_line(own_environment: dict[str, str]) -> None:
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
        assert (event["request_id"], event["trace_id"], event["client_address"]) == (None, None, None)


def test_the_command_line_prints_a_key_once(own_environment: dict[str, str]) -> None:
    shown = cli_ok(own_environment, "create", "--name", "n", "--owner", "o", "--scope", "platform:chat").stdout
    key = shown.splitlines()[0]
    key_id = key.split("_")[2]
    assert shown.count(key) == 1
    assert f"Its id is {key_id}." in shown
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
    "a grace beyond": (["rotate", "{id}", "--grace-period-seconds", "2592001"], ValidationFailed, "grace"),
}  # fmt: skip


@pytest.fixture(scope="module")
def shared_environment(platform: Platform) -> Iterator[tuple[dict[str, str], str]]:
    """The session's environment, and the id of a key that every refused command leaves as it is."""
    record, _ = platform.new_key()
    yield dict(platform.environment), record.key_id
    assert cli_json(dict(platform.environment), "show", record.key_id) == record.plain()


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_command_line_refuses(shared_environment: tuple[dict[str, str], str], case: str) -> None:
    environment, key_id = shared_environment
    arguments, kind, named = REFUSED[case]
    result = cli(environment, *(argument.replace("{id}", key_id) for argument in arguments))
    assert isinstance(result.exception, kind), result
    assert named in " ".join([result.exception.message, *(result.exception.details or [])])


def test_bootstrap_and_the_last_administrator_at_the_command_line(own_environment: dict[str, str]) -> None:
    """Processes of their own: two operators that bootstrap at the same time, and exit codes."""
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


@pytest.fixture
def own_gateway(own_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway({**own_environment, "PLATFORM_API_KEY_PEPPER": BOTH}, tmp_path_factory.mktemp("own")) as running:
        yield running


async def test_there_is_no_bootstrap_and_no_force_over_http(
    keys: Keys, own_gateway: Gateway, client: httpx.AsyncClient
) -> None:
    record, token = await keys.new("platform:*")
    assert await keys.admin.keys.secrets_by_pepper() == {1: 1}
    api = Api(client, own_gateway.base_url, token.text)
    assert (await api.call("POST", "/bootstrap", json={})).status_code == 405  # the path of a key's id
    forced = await api.call("POST", f"/{record.key_id}/revoke", json={"reason": "a test", "force": True})
    assert forced.status_code == 422
    queried = await api.call("POST", f"/{record.key_id}/revoke?force=true", json={"reason": "a test"})
    assert (queried.status_code, queried.json()["error"]["code"]) == (409, "conflict")
    demoted = await api.update(record.key_id, scopes=["platform:chat"])
    assert (demoted.status_code, demoted.json()["error"]["code"]) == (409, "conflict")
    assert (await api.show(record.key_id)).json()["scopes"] == ["platform:*"]
    assert await api.use(token.text) == [200]
    assert await keys.admin.keys.secrets_by_pepper() == {2: 1}, "this gateway has both peppers"


async def test_an_actor_is_held_to_its_own_grants_whatever_the_way(keys: Keys) -> None:
    """The rules sit in the lifecycle, not in the routes."""
    target, _ = await keys.new("platform:embeddings")
    lesser = Actor("key:lesser", grants=frozenset({"platform:api_keys:manage", "platform:chat"}))
    new = NewKey("n", "o", ["platform:embeddings"], "test")
    lifecycle = keys.admin.lifecycle
    for attempt in (
        lifecycle.create(new, keys.peppers, lesser),
        lifecycle.update(target.key_id, KeyChanges(name="mine"), lesser),
        lifecycle.rotate(target.key_id, 0, keys.peppers, lesser),
        lifecycle.revoke(target.key_id, "a test", lesser, force=True),
    ):
        with pytest.raises(InsufficientScope, match="platform:embeddings"):
            await attempt
    assert (await keys.admin.keys.get(target.key_id)) == target
