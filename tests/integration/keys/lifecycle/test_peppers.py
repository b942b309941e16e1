"""Peppers change without a key that is used meanwhile noticing it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from platform_app.auth.authenticator import Authenticator, AuthPolicy, SecretPeppers
from platform_app.auth.cache import KeyCache
from platform_app.auth.keys.records import KeyChanges
from platform_app.auth.keys.store import KeyStore
from platform_app.auth.pepper import parse_peppers
from platform_app.config import load_settings
from platform_app.db.engine import make_engine
from platform_app.errors import Conflict, InvalidApiKey
from platform_app.secret_store.env import EnvSecretStore
from tests.support.gateway.key_lifecycle import (
    BOTH,
    ONE,
    OPERATOR,
    TWO,
    Keys,
    cli_ok,
    id_of,
)
from tests.support.gateway.keys_api import sql


async def test_new_secret_is_stored_under_first_pepper(keys: Keys, own_database: str) -> None:
    record, _ = await keys.new()
    keys.peppers = parse_peppers("PEPPER", BOTH)
    _, token = await keys.admin.lifecycle.rotate(record.key_id, 60, keys.peppers, OPERATOR)
    rows = sql(own_database, "SELECT pepper_version, not_after, digest FROM api_key_secrets ORDER BY created_at")
    assert [(row["pepper_version"], row["not_after"] is None) for row in rows] == [(1, False), (2, True)]
    assert rows[1]["digest"] == keys.peppers.digest(token.text, 2)


async def test_only_valid_secrets_are_counted_by_pepper(keys: Keys, own_database: str) -> None:
    record, _ = await keys.new()
    keys.peppers = parse_peppers("PEPPER", BOTH)
    assert await keys.admin.keys.secrets_by_pepper() == {1: 1}
    await keys.admin.lifecycle.rotate(record.key_id, 60, keys.peppers, OPERATOR)
    assert await keys.admin.keys.secrets_by_pepper() == {1: 1, 2: 1}
    sql(own_database, "UPDATE api_key_secrets SET not_after = now() WHERE not_after IS NOT NULL")
    assert await keys.admin.keys.secrets_by_pepper() == {2: 1}
    await keys.admin.lifecycle.revoke(record.key_id, "a test", OPERATOR)
    assert await keys.admin.keys.secrets_by_pepper() == {}


async def test_administrator_under_removed_pepper_does_not_count(keys: Keys, own_database: str) -> None:
    last, useless = await keys.new_admin(), await keys.new_admin()
    update = "UPDATE api_key_secrets SET pepper_version = 7 WHERE key_id = :id"
    sql(own_database, update, id=id_of(useless))
    for change in (
        keys.revoke(last),
        keys.admin.lifecycle.update(id_of(last), KeyChanges(scopes=["platform:chat"]), last),
    ):
        with pytest.raises(Conflict, match="last administrator"):
            await change
    sql(own_database, update.replace("7", "1"), id=id_of(useless))
    await keys.revoke(last)


@pytest.mark.parametrize("text", ["", "short"])
async def test_unreadable_pepper_does_not_prevent_revocation(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    first, _ = await keys.new_admin(), await keys.new_admin()
    source = EnvSecretStore({"PEPPER": text} if text else {})
    monkeypatch.setattr(keys.admin.lifecycle, "_peppers", SecretPeppers(source, "PEPPER"))
    await keys.revoke(first)


@asynccontextmanager
async def verifier(url: str, peppers: str) -> AsyncIterator[Callable[[str], Awaitable[int]]]:
    """Yield a function that authenticates a key with these peppers and without a cache, and returns the HTTP status."""
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


async def test_pepper_rotation_stores_keys_as_they_are_used(own_environment: dict[str, str], keys: Keys) -> None:
    """The configuration goes from the old pepper to both to the new one: only keys used with both remain valid."""
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


async def test_grace_period_outlives_pepper_rotation(own_environment: dict[str, str], keys: Keys) -> None:
    url = own_environment["PLATFORM_DATABASE_URL"]
    record, old = await keys.new()
    await keys.admin.lifecycle.rotate(record.key_id, 300, keys.peppers, OPERATOR)
    async with verifier(url, BOTH) as status, asyncio.timeout(300):
        assert await status(old.text) == 200
        sql(url, "UPDATE api_key_secrets SET not_after = now() WHERE not_after IS NOT NULL")
        while await status(old.text) == 200:
            pass
    left = sql(url, "SELECT pepper_version FROM api_key_secrets WHERE not_after <= now()")
    assert left == [{"pepper_version": 2}], "stored anew, and ended all the same"


async def test_concurrent_first_uses_store_a_secret_once(own_environment: dict[str, str], keys: Keys) -> None:
    url = own_environment["PLATFORM_DATABASE_URL"]
    _, token = await keys.new()
    async with verifier(url, BOTH) as one, verifier(url, BOTH) as two:
        statuses = await asyncio.gather(*(status(token.text) for status in (one, two) for _ in range(25)))
        assert statuses == [200] * 50
        assert await one(token.text) == 200
    assert sql(url, "SELECT pepper_version FROM api_key_secrets") == [{"pepper_version": 2}]
