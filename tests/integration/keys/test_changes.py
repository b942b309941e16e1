"""What each change of a key does on a real PostgreSQL, below HTTP: secrets, results, events and counts."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from platform_app.auth.keys.records import Actor, ActorKey, KeyChanges, KeyRecord, NewKey, StoredSecret
from platform_app.auth.keys.rules import KeyRules
from platform_app.auth.keys.service import KeyLifecycle, active
from platform_app.auth.keys.store import KeyStore
from platform_app.auth.pepper import parse_peppers
from platform_app.auth.tokens import Token, generate_token
from platform_app.config import load_settings
from platform_app.db.engine import make_engine
from platform_app.db.models import ApiKey
from platform_app.errors import Conflict, InsufficientScope, NotFound, PlatformError, ValidationFailed
from tests.support.fakes.core import Count

PEPPERS = parse_peppers("PEPPER", "1a" * 32)
OPERATOR = Actor("ops")
HOUR = timedelta(hours=1)


class Events:
    """Remembers each published key with the name that the database had for it at that time."""

    def __init__(self, store: KeyStore) -> None:
        self.published: list[tuple[str, str, int]] = []
        self._store = store

    async def publish_change(self, key_id: str) -> None:
        stored = await self._store.lookup(key_id)
        assert stored is not None
        self.published.append((key_id, stored.record.status(), len(stored.secrets)))


class Keys:
    """Store and lifecycle on one engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.store = KeyStore(engine)
        self.events = Events(self.store)
        self.lifecycle = KeyLifecycle(engine, KeyRules(), self.events)

    async def create(self, *scopes: str, actor: Actor = OPERATOR, **fields: Any) -> tuple[KeyRecord, Token]:
        fields = {"name": "n", "owner": "o", "environment": "test"} | fields
        return await self.lifecycle.create(NewKey(scopes=scopes or ["platform:chat"], **fields), PEPPERS, actor)

    async def rotate(self, key_id: str, grace: int = 0, **more: Any) -> tuple[KeyRecord, Token]:
        return await self.lifecycle.rotate(key_id, grace, PEPPERS, more.pop("actor", OPERATOR), **more)

    async def secrets(self, key_id: str) -> dict[bytes, StoredSecret]:
        stored = await self.store.lookup(key_id)
        assert stored is not None
        return {secret.digest: secret for secret in stored.secrets}

    async def run(self, statement: str, **values: Any) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(statement), values)

    async def audit(self, key_id: str) -> list[dict[str, Any]]:
        statement = text("SELECT * FROM audit_events WHERE target = :key_id ORDER BY id")
        async with self.engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(statement, {"key_id": key_id})).mappings()]


@pytest.fixture
async def keys(database: str) -> AsyncIterator[Keys]:
    engine = make_engine(load_settings(database_url=database, redis_url="redis://localhost"))
    yield Keys(engine)
    await engine.dispose()


def digest_of(token: Token) -> bytes:
    digest = PEPPERS.digest(token.text)
    assert digest is not None
    return digest


Change = Callable[[Keys, str], Awaitable[object]]
CHANGES: dict[str, Change] = {
    "update": lambda keys, key_id: keys.lifecycle.update(key_id, KeyChanges(name="m"), OPERATOR),
    "rotate": lambda keys, key_id: keys.rotate(key_id, 60),
    "revoke": lambda keys, key_id: keys.lifecycle.revoke(key_id, "a test", OPERATOR),
}


@pytest.mark.parametrize(
    ("action", "status", "secrets"), [("update", "active", 1), ("rotate", "active", 2), ("revoke", "revoked", 1)]
)
async def test_change_is_published_after_its_commit(keys: Keys, action: str, status: str, secrets: int) -> None:
    """Other processes read the key again as soon as they get the event."""
    record, _ = await keys.create()
    assert keys.events.published == [], "no process knows a new key"
    await CHANGES[action](keys, record.key_id)
    assert keys.events.published == [(record.key_id, status, secrets)]


@pytest.mark.parametrize("action", CHANGES)
async def test_change_is_counted_by_its_result(keys: Keys, action: str) -> None:
    record, _ = await keys.create()
    ok, missing = (
        Count("platform_key_changes_total", action=action, outcome="ok"),
        Count("platform_key_changes_total", action=action, outcome="not_found"),
    )
    await CHANGES[action](keys, record.key_id)
    assert (ok.grown, missing.grown) == (1, 0)
    with pytest.raises(NotFound):
        await CHANGES[action](keys, generate_token("test").key_id)
    assert (ok.grown, missing.grown) == (1, 1)
    assert len(keys.events.published) == 1


async def test_new_key_is_counted_by_its_result(keys: Keys) -> None:
    created = Count("platform_key_changes_total", action="create", outcome="ok")
    refused = Count("platform_key_changes_total", action="create", outcome="invalid_api_key")
    await keys.create()
    with pytest.raises(PlatformError):
        await keys.create(actor=Actor("key:gone", ActorKey("0" * 12, datetime.now(UTC))))
    assert (created.grown, refused.grown) == (1, 1)


@pytest.mark.parametrize("action", CHANGES)
async def test_malformed_id_is_not_found(keys: Keys, action: str) -> None:
    """PostgreSQL fails on some of it, and it may be a whole key, which no message may repeat."""
    with pytest.raises(NotFound) as caught:
        await CHANGES[action](keys, "fbp_test\x00")
    assert "fbp_test" not in caught.value.message


@pytest.mark.parametrize("action", CHANGES)
async def test_revoked_key_does_not_change(keys: Keys, action: str) -> None:
    record, _ = await keys.create()
    revoked = await keys.lifecycle.revoke(record.key_id, "a test", OPERATOR)
    before = await keys.store.lookup(record.key_id)
    with pytest.raises(Conflict, match="was revoked at"):
        await CHANGES[action](keys, record.key_id)
    assert await keys.store.lookup(record.key_id) == before
    assert before is not None
    assert before.record == revoked


async def test_rotation_keeps_the_last_secret_for_the_grace_period(keys: Keys) -> None:
    """And no older one, however often the key is rotated."""
    record, first = await keys.create()
    (other, _) = await keys.create()
    others = await keys.secrets(other.key_id)
    _, second = await keys.rotate(record.key_id, 3600)
    _, third = await keys.rotate(record.key_id, 1800)
    secrets = await keys.secrets(record.key_id)
    assert set(secrets) == {digest_of(second), digest_of(third)}
    assert first.text not in (second.text, third.text)
    assert secrets[digest_of(third)].not_after is None
    until = secrets[digest_of(second)].not_after
    assert until is not None
    assert abs(until - datetime.now(UTC) - timedelta(seconds=1800)) < timedelta(minutes=5)
    _, fourth = await keys.rotate(record.key_id, 0)
    assert set(await keys.secrets(record.key_id)) == {digest_of(fourth)}
    assert await keys.secrets(other.key_id) == others


@pytest.mark.parametrize("environment", ["live", "test"])
async def test_rotated_key_keeps_its_id_and_environment(keys: Keys, environment: str) -> None:
    record, _ = await keys.create(environment=environment)
    after, token = await keys.rotate(record.key_id)
    assert token.text.startswith(f"fbp_{environment}_{record.key_id}_")
    assert after == record


async def test_expired_key_is_rotated_only_with_a_new_expiry(keys: Keys) -> None:
    record, _ = await keys.create(expires_at=datetime.now(UTC) + HOUR)
    await keys.run("UPDATE api_keys SET expires_at = now() WHERE key_id = :id", id=record.key_id)
    before = await keys.store.lookup(record.key_id)
    with pytest.raises(Conflict, match="has expired"):
        await keys.rotate(record.key_id)
    assert await keys.store.lookup(record.key_id) == before
    after, token = await keys.rotate(record.key_id, extend=HOUR)
    assert after.status() == "active"
    assert set(await keys.secrets(record.key_id)) == {digest_of(token)}


async def test_expiry_as_before_counts_from_the_newest_secret(keys: Keys) -> None:
    """The newest secret was made a day ago with five days to live, an older one three days ago."""
    record, _ = await keys.create(expires_at=datetime.now(UTC) + timedelta(days=4))
    await keys.rotate(record.key_id, 3600)
    await keys.run(
        "UPDATE api_key_secrets SET created_at = now() - CASE WHEN not_after IS NULL THEN interval '1 day' "
        "ELSE interval '3 days' END WHERE key_id = :id",
        id=record.key_id,
    )
    after, _ = await keys.rotate(record.key_id, extend="as before")
    assert after.expires_at is not None
    assert abs(after.expires_at - datetime.now(UTC) - timedelta(days=5)) < HOUR


async def test_extension_is_checked_as_any_expiry(keys: Keys) -> None:
    """It may not end in the past, nor later than the actor's own key."""
    own, _ = await keys.create("platform:api_keys:manage", "platform:chat", expires_at=datetime.now(UTC) + 3 * HOUR)
    [secret] = (await keys.secrets(own.key_id)).values()
    actor = Actor("key", ActorKey(own.key_id, secret.created_at))
    record, _ = await keys.create(expires_at=datetime.now(UTC) + HOUR)
    before = await keys.store.lookup(record.key_id)
    with pytest.raises(ValidationFailed, match="not valid"):
        await keys.rotate(record.key_id, extend=-HOUR)
    with pytest.raises(ValidationFailed, match="cannot grant"):
        await keys.rotate(record.key_id, extend=4 * HOUR, actor=actor)
    assert await keys.store.lookup(record.key_id) == before
    after, _ = await keys.rotate(record.key_id, extend=2 * HOUR, actor=actor)
    assert after.expires_at is not None
    assert record.expires_at is not None
    assert after.expires_at > record.expires_at


async def test_actor_cannot_give_a_key_more_than_its_own_has(keys: Keys) -> None:
    """By an update, of a key that it may manage otherwise."""
    own, _ = await keys.create("platform:api_keys:manage", "platform:chat")
    [secret] = (await keys.secrets(own.key_id)).values()
    actor = Actor("key", ActorKey(own.key_id, secret.created_at))
    record, _ = await keys.create()
    with pytest.raises(InsufficientScope, match="platform:embeddings"):
        await keys.lifecycle.update(record.key_id, KeyChanges(scopes=["platform:embeddings"]), actor)
    with pytest.raises(ValidationFailed, match="cannot grant"):
        await keys.lifecycle.update(record.key_id, KeyChanges(owner="another"), actor)
    assert await keys.store.get(record.key_id, only_owner=None) == record
    assert (await keys.lifecycle.update(record.key_id, KeyChanges(name="m"), actor)).name == "m"


@pytest.mark.parametrize("grace", [-1, 30 * 86_400 + 1])
async def test_rotation_with_an_invalid_grace_period_is_refused(keys: Keys, grace: int) -> None:
    record, _ = await keys.create()
    before = await keys.secrets(record.key_id)
    with pytest.raises(ValidationFailed):
        await keys.rotate(record.key_id, grace)
    assert await keys.secrets(record.key_id) == before


async def test_update_returns_and_stores_what_it_changes(keys: Keys) -> None:
    record, _ = await keys.create()
    bystander, _ = await keys.create()
    changes = KeyChanges(scopes=["platform:usage:read", "platform:chat", "platform:chat"], allowed_models=["b", "a"])
    after = await keys.lifecycle.update(record.key_id, changes, OPERATOR)
    assert (after.scopes, after.allowed_models) == (["platform:chat", "platform:usage:read"], ["a", "b"])
    assert await keys.store.get(record.key_id, only_owner=None) == after
    assert await keys.store.get(bystander.key_id, only_owner=None) == bystander
    unchanged = await keys.lifecycle.update(record.key_id, KeyChanges(), OPERATOR)
    assert unchanged == after


async def test_each_change_writes_its_audit_event(keys: Keys) -> None:
    record, _ = await keys.create(expires_at=datetime.now(UTC) + HOUR)
    updated = await keys.lifecycle.update(record.key_id, KeyChanges(name="m"), OPERATOR)
    rotated, _ = await keys.rotate(record.key_id, 60, extend=2 * HOUR)
    revoked = await keys.lifecycle.revoke(record.key_id, "it leaked", OPERATOR)
    steps = [record, updated, rotated, revoked]
    assert [(event["action"], event["actor"], event["reason"]) for event in await keys.audit(record.key_id)] == [
        ("api_key.create", "ops", None),
        ("api_key.update", "ops", None),
        ("api_key.rotate", "ops", "grace period 60 s"),
        ("api_key.revoke", "ops", "it leaked"),
    ]
    for event, before, after in zip(await keys.audit(record.key_id), [None, *steps], steps, strict=False):
        assert (event["before"], event["after"]) == (before and audited(before), audited(after))


def audited(record: KeyRecord) -> dict[str, Any]:
    """A record as its audit event has it: the status follows from the rest, and from the time."""
    fields = record.plain()
    del fields["status"]
    return fields


async def test_bootstrap_is_refused_with_several_administrators(keys: Keys) -> None:
    made = [(await keys.create("platform:*"))[0] for _ in range(2)]
    with pytest.raises(Conflict, match="active administrator"):
        await keys.lifecycle.bootstrap(NewKey("n", "o", [], "test"), PEPPERS, OPERATOR)
    for record in made:
        await keys.lifecycle.revoke(record.key_id, "a test", OPERATOR, force=True)


async def test_key_is_not_active_at_the_moment_of_its_expiry(keys: Keys) -> None:
    """As for KeyRecord.status(). Within a transaction the database's clock stands still."""
    record, _ = await keys.create()
    found = select(ApiKey.key_id).where(ApiKey.key_id == record.key_id, active())
    expire = update(ApiKey).where(ApiKey.key_id == record.key_id)
    async with keys.engine.begin() as connection:
        assert (await connection.execute(found)).scalars().all() == [record.key_id]
        await connection.execute(expire.values(expires_at=func.now()))
        assert (await connection.execute(found)).scalars().all() == []
        await connection.execute(expire.values(expires_at=func.now() + timedelta(microseconds=1)))
        assert (await connection.execute(found)).scalars().all() == [record.key_id]
