"""API keys on a real PostgreSQL, below HTTP: what is stored, what is audited, and what no error says."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from platform_app.auth.keys.records import Actor, KeyChanges, KeyFilter, KeyRecord, NewKey
from platform_app.auth.keys.rules import KeyRules
from platform_app.auth.keys.service import KeyLifecycle
from platform_app.auth.keys.store import DATABASE_ERRORS, KeyStore
from platform_app.auth.pepper import parse_peppers
from platform_app.auth.tokens import Token, generate_token
from platform_app.config import load_settings
from platform_app.db.engine import make_engine
from platform_app.errors import Conflict, NotFound, ValidationFailed
from tests.support.gateway.migrate import migrate_up
from tests.support.ledger.database import connected, waits_for_lock

PEPPERS = parse_peppers("PEPPER", f"3:{'1a' * 32}")
ACTOR = Actor("ops", request_id="req-7", trace_id="ab" * 16, client_address="10.0.0.1")


class NoEvents:
    """Publishes nothing."""

    async def publish_change(self, key_id: str) -> None:
        pass


class Keys:
    """Store and service on one engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.store = KeyStore(engine)
        self.lifecycle = KeyLifecycle(engine, KeyRules(), NoEvents())

    async def create(self, **fields: Any) -> tuple[KeyRecord, Token]:
        new = NewKey(**({"name": "n", "owner": "o", "scopes": ["platform:chat"], "environment": "test"} | fields))
        return await self.lifecycle.create(new, PEPPERS, ACTOR)

    async def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        async with self.engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(text(statement), values)).mappings()]

    async def run(self, *statements: str) -> None:
        async with self.engine.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement))

    async def audit(self, key_id: str) -> list[dict[str, Any]]:
        return await self.rows("SELECT * FROM audit_events WHERE target = :key_id ORDER BY id", key_id=key_id)


async def open_keys(url: str, **settings: Any) -> AsyncIterator[Keys]:
    engine = make_engine(load_settings(database_url=url, redis_url="redis://localhost", **settings))
    yield Keys(engine)
    await engine.dispose()


@pytest.fixture
async def keys(database: str) -> AsyncIterator[Keys]:
    async for opened in open_keys(database):
        yield opened


async def test_key_is_stored_as_its_hmac(keys: Keys) -> None:
    expires_at = datetime(2099, 1, 31, 12, tzinfo=UTC)
    record, token = await keys.create(
        owner="team-é", scopes=["platform:usage:read", "platform:chat", "platform:chat"],
        allowed_models=["b", "a", "b"], expires_at=expires_at,
    )  # fmt: skip
    assert record.key_id == token.key_id
    assert (record.name, record.owner, record.environment, record.created_by) == ("n", "team-é", "test", "ops")
    assert (record.scopes, record.allowed_models) == (["platform:chat", "platform:usage:read"], ["a", "b"])
    assert (record.expires_at, record.status()) == (expires_at, "active")
    assert abs(record.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    stored = await keys.store.lookup(token.key_id)
    assert stored is not None
    assert stored.record == record == await keys.store.get(token.key_id, only_owner=None)
    [secret] = stored.secrets
    assert (secret.digest, secret.pepper_version, secret.not_after) == (PEPPERS.digest(token.text), 3, None)


async def test_several_ids_are_looked_up_together(keys: Keys) -> None:
    created = [await keys.create() for _ in range(3)]
    await keys.lifecycle.rotate(created[0][0].key_id, 3600, PEPPERS, ACTOR)
    ids = [record.key_id for record, _ in created]
    found = await keys.store.lookup_many([*ids, ids[0], generate_token("test").key_id])
    assert set(found) == set(ids)
    for key_id in ids:
        alone = await keys.store.lookup(key_id)
        assert alone is not None
        assert found[key_id].record == alone.record
        assert set(found[key_id].secrets) == set(alone.secrets)
    assert len(found[ids[0]].secrets) == 2
    assert await keys.store.lookup_many([]) == {}


async def test_unknown_id_returns_none_or_raises_not_found(keys: Keys) -> None:
    unknown = generate_token("test").key_id
    assert await keys.store.lookup(unknown) is None
    with pytest.raises(NotFound, match=unknown):
        await keys.store.get(unknown, only_owner=None)
    with pytest.raises(NotFound, match=unknown):
        await keys.lifecycle.revoke(unknown, "why", ACTOR)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": ""}, "name: must have 1 to 200 characters"),
        ({"name": "x" * 201}, "name: must have 1 to 200 characters"),
        ({"owner": " \t"}, "owner: must have 1 to 200 characters"),
        ({"owner": "a\x00b"}, "owner: control characters are not allowed"),
        ({"name": "a\nb"}, "name: control characters are not allowed"),
        ({"scopes": []}, "scopes: at least one is required, of platform:*"),
        ({"scopes": ["platform:chat", "admin"]}, "scopes: 'admin' does not exist; choose from platform:*"),
        ({"expires_at": datetime(2099, 1, 1)}, "expires_at: must have a time zone"),  # noqa: DTZ001 - that is the point
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expires_at: is in the past"),
    ],
)
async def test_invalid_field_is_named_and_not_stored(keys: Keys, fields: dict[str, Any], problem: str) -> None:
    [before] = await keys.rows("SELECT count(*) FROM api_keys")
    with pytest.raises(ValidationFailed) as caught:
        await keys.create(**fields)
    [found] = caught.value.details or []
    assert found.startswith(problem)
    assert await keys.rows("SELECT count(*) FROM api_keys") == [before]


async def test_all_invalid_fields_are_named(keys: Keys) -> None:
    with pytest.raises(ValidationFailed) as caught:
        await keys.create(name="", owner="", scopes=["x"], expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert [problem.split(":")[0] for problem in caught.value.details or []] == [
        "name", "owner", "scopes", "expires_at",
    ]  # fmt: skip


async def test_list_is_newest_first_by_owner_in_pages(keys: Keys) -> None:
    owner = f"owner {generate_token('test').key_id}"
    made = [(await keys.create(owner=owner, name=str(number)))[0] for number in range(5)]
    await keys.create(owner=f"{owner} and more")
    page = await keys.store.list(KeyFilter(owner=owner), only_owner=None)
    assert list(page.keys) == made[::-1]
    assert page.next_cursor is None
    found: list[KeyRecord] = []
    cursor = None
    while True:
        page = await keys.store.list(KeyFilter(owner=owner), only_owner=None, limit=2, cursor=cursor)
        found += page.keys
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == made[::-1]


async def test_second_revocation_is_refused_and_changes_nothing(keys: Keys) -> None:
    record, _ = await keys.create()
    revoked = await keys.lifecycle.revoke(record.key_id, "leaked in a ticket", ACTOR)
    assert (revoked.status(), revoked.revoked_by, revoked.revoked_reason) == ("revoked", "ops", "leaked in a ticket")
    assert revoked.revoked_at is not None
    with pytest.raises(Conflict, match="revoked"):
        await keys.lifecycle.revoke(record.key_id, "again", Actor("somebody else"))
    assert await keys.store.get(record.key_id, only_owner=None) == revoked
    stored = await keys.store.lookup(record.key_id)
    assert stored is not None
    assert stored.record.revoked_at == revoked.revoked_at
    assert len(await keys.audit(record.key_id)) == 2


@pytest.mark.parametrize("reason", ["", "  "])
async def test_revocation_requires_a_reason(keys: Keys, reason: str) -> None:
    record, _ = await keys.create()
    with pytest.raises(ValidationFailed):
        await keys.lifecycle.revoke(record.key_id, reason, ACTOR)
    assert (await keys.store.get(record.key_id, only_owner=None)).status() == "active"


async def test_audit_event_has_actor_and_request_but_no_secret(keys: Keys) -> None:
    record, token = await keys.create()
    await keys.lifecycle.revoke(record.key_id, "why", ACTOR)
    created, revoked = await keys.audit(record.key_id)
    assert (created["action"], revoked["action"]) == ("api_key.create", "api_key.revoke")
    for event in (created, revoked):
        who = (event["actor"], event["request_id"], event["trace_id"], event["client_address"])
        assert who == ("ops", "req-7", "ab" * 16, "10.0.0.1")
    assert created["before"] is None
    assert created["after"]["scopes"] == ["platform:chat"]
    assert revoked["before"]["revoked_at"] is None
    assert revoked["after"]["revoked_by"] == "ops"
    assert revoked["reason"] == "why"
    digest = PEPPERS.digest(token.text)
    assert digest is not None
    written = repr([created, revoked])
    for secret in (token.text, token.text.split("_")[3], digest.hex(), repr(digest)[2:-1], "digest"):
        assert secret not in written


async def change(keys: Keys, action: str, key_id: str) -> None:
    match action:
        case "create":
            await keys.create()
        case "revoke":
            await keys.lifecycle.revoke(key_id, "why", ACTOR)
        case "rotate":
            await keys.lifecycle.rotate(key_id, 60, PEPPERS, ACTOR)


@pytest.mark.parametrize("action", ["create", "revoke", "rotate"])
async def test_change_without_audit_event_is_rolled_back(empty_database: str, action: str) -> None:
    migrate_up(empty_database)
    async for keys in open_keys(empty_database):
        record, token = await keys.create()
        before = await keys.rows("SELECT * FROM api_keys JOIN api_key_secrets USING (key_id)")
        await keys.run(
            f"ALTER TABLE audit_events ADD CONSTRAINT no_more CHECK (action <> 'api_key.{action}') NOT VALID"
        )
        with pytest.raises(DBAPIError) as caught:
            await change(keys, action, record.key_id)
        assert token.text not in str(caught.value)
        assert await keys.rows("SELECT * FROM api_keys JOIN api_key_secrets USING (key_id)") == before
        assert len(await keys.rows("SELECT * FROM audit_events")) == 1


async def test_rolled_back_change_has_no_audit_event(empty_database: str) -> None:
    migrate_up(empty_database)
    async for keys in open_keys(empty_database):
        await keys.run("ALTER TABLE api_key_secrets ADD CONSTRAINT none CHECK (pepper_version <> 3)")
        with pytest.raises(DBAPIError):
            await keys.create()
        assert await keys.rows("SELECT * FROM api_keys") == []
        assert await keys.rows("SELECT * FROM audit_events") == []


async def test_error_contains_no_digest_or_parameter(empty_database: str) -> None:
    """SQLAlchemy's own messages would, and they end in logs."""
    migrate_up(empty_database)
    async for keys in open_keys(empty_database):
        _, token = await keys.create(owner="an owner to look for")
        digest = PEPPERS.digest(token.text)
        assert digest is not None
        await keys.run(
            "ALTER TABLE api_key_secrets ADD CONSTRAINT short CHECK (octet_length(digest) < 5) NOT VALID",
            "ALTER TABLE api_keys ADD CONSTRAINT named CHECK (name = 'x') NOT VALID",
        )
        errors: list[BaseException] = []
        for work in (
            keys.create(owner="an owner to look for", name="x"),
            keys.store.rehash(digest, b"y" * 32, 1),
            keys.lifecycle.revoke(token.key_id, "why", ACTOR),
        ):
            with pytest.raises(DBAPIError) as caught:
                await work
            errors.append(caught.value)
        for error in errors:
            said = f"{error} {error!r} {error.args}"
            assert digest.hex() not in said
            assert repr(digest)[2:-1] not in said
            assert "hidden" in said


async def test_concurrent_revocations_write_one_event(keys: Keys, database: str) -> None:
    record, _ = await keys.create()
    outcomes = await asyncio.gather(
        *(keys.lifecycle.revoke(record.key_id, f"reason {number}", ACTOR) for number in range(4)),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict"] * 3 + ["KeyRecord"]
    assert len(await keys.audit(record.key_id)) == 2


class TestWhatADatabaseRaisesThatIsDown:
    """Everything that DATABASE_ERRORS promises: a class that is missing there would be a 500."""

    @staticmethod
    async def lookup(url: str, **settings: Any) -> None:
        async for keys in open_keys(url, database_timeout_seconds=0.5, **settings):
            with pytest.raises(DATABASE_ERRORS):
                await keys.store.lookup("A" * 12)

    async def test_missing_database_is_a_database_error(self, postgres: EmbeddedPostgres) -> None:
        await self.lookup(postgres.url("nowhere"))

    async def test_refused_connection_is_a_database_error(self) -> None:
        await self.lookup("postgresql://u:p@127.0.0.1:1/p")

    async def test_missing_tables_are_a_database_error(self, empty_database: str) -> None:
        await self.lookup(empty_database)

    async def test_full_pool_is_a_database_error(self, database: str) -> None:
        async for keys in open_keys(database, database_timeout_seconds=0.3, database_pool_size=1):
            async with keys.engine.connect():
                with pytest.raises(DATABASE_ERRORS):
                    await keys.store.lookup("A" * 12)
            assert await keys.store.lookup("A" * 12) is None

    async def test_too_many_clients_is_a_database_error(self, postgres: EmbeddedPostgres, empty_database: str) -> None:
        name = empty_database.partition("@/")[2].partition("?")[0]
        async for keys in open_keys(postgres.url("postgres")):
            async with keys.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                await connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        await self.lookup(empty_database)

    async def test_terminated_session_is_a_database_error(self, empty_database: str) -> None:
        migrate_up(empty_database)
        async for other in open_keys(empty_database):
            async for keys in open_keys(empty_database, database_timeout_seconds=60):
                async with other.engine.begin() as blocker, connected(empty_database) as watcher:
                    await blocker.execute(text("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE"))
                    waiting = asyncio.create_task(keys.store.lookup("A" * 12))
                    pid = await waits_for_lock(empty_database, waiting)
                    await watcher.execute("SELECT pg_terminate_backend($1, 5000)", pid)
                    with pytest.raises(DATABASE_ERRORS):
                        await waiting
                # The next one works again.
                assert await keys.store.lookup("A" * 12) is None


async def test_invalid_change_is_named_and_not_stored(keys: Keys) -> None:
    record, _ = await keys.create()
    with pytest.raises(ValidationFailed) as caught:
        await keys.lifecycle.update(record.key_id, KeyChanges(name=""), ACTOR)
    assert "name" in str(caught.value.details)
    assert await keys.store.get(record.key_id, only_owner=None) == record


async def test_first_administrator_is_checked_and_created_once(empty_database: str) -> None:
    migrate_up(empty_database)
    async for keys in open_keys(empty_database):
        first = NewKey(name="first", owner="ops", scopes=[], environment="test")
        with pytest.raises(ValidationFailed):
            await keys.lifecycle.bootstrap(replace(first, name=""), PEPPERS, ACTOR)
        record, _ = await keys.lifecycle.bootstrap(first, PEPPERS, ACTOR)
        assert record.scopes == ["platform:*"]
        with pytest.raises(Conflict, match=record.key_id):
            await keys.lifecycle.bootstrap(replace(first, name="second"), PEPPERS, ACTOR)


async def test_rotation_extends_by_a_time_or_by_the_secrets_own(keys: Keys) -> None:
    """The time that the current secret had counts from its own creation, whatever other keys have."""
    record, _ = await keys.create(expires_at=datetime.now(UTC) + timedelta(hours=1))
    await keys.create(expires_at=datetime.now(UTC) + timedelta(hours=1))
    rotate = partial(keys.lifecycle.rotate, record.key_id, 0, PEPPERS, ACTOR)
    after, _ = await rotate(extend=timedelta(days=2))
    assert after.expires_at is not None
    assert timedelta(0) <= datetime.now(UTC) + timedelta(days=2) - after.expires_at < timedelta(hours=1)
    day_before = (
        f"UPDATE api_key_secrets SET created_at = created_at - interval '1 day' WHERE key_id = '{record.key_id}'"
    )
    await keys.run(day_before)
    after, _ = await rotate(extend="as before")
    assert after.expires_at is not None
    assert timedelta(0) <= datetime.now(UTC) + timedelta(days=3) - after.expires_at < timedelta(hours=1)
    assert await keys.store.get(record.key_id, only_owner=None) == after


async def test_key_without_an_expiry_cannot_be_extended(keys: Keys) -> None:
    record, _ = await keys.create()
    with pytest.raises(Conflict, match="does not expire"):
        await keys.lifecycle.rotate(record.key_id, 0, PEPPERS, ACTOR, extend=timedelta(days=2))
