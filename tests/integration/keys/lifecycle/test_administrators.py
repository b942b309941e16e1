"""Who may change keys: one administrator always remains, and no key grants more rights than it has."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from platform_app.auth.keys.records import Actor, ActorKey, KeyChanges, NewKey
from platform_app.errors import Conflict, InsufficientScope, InvalidApiKey, NotFound, ValidationFailed
from tests.support.gateway.key_lifecycle import (
    BOTH,
    OPERATOR,
    Keys,
    id_of,
)
from tests.support.gateway.keys_api import Api, sql
from tests.support.gateway.process import Gateway

FAR = datetime(2190, 1, 1, tzinfo=UTC)

# --- the last administrator


async def test_last_administrator_cannot_revoke_itself(keys: Keys) -> None:
    first, second = await keys.new_admin(), await keys.new_admin()
    await keys.revoke(first)
    with pytest.raises(Conflict, match="last administrator") as caught:
        await keys.revoke(second)
    assert "--force" in caught.value.message
    with pytest.raises(Conflict, match="last administrator"):
        await keys.admin.lifecycle.revoke(id_of(second), "a test", OPERATOR)
    assert await keys.admins() == [id_of(second)]
    await keys.revoke(second, force=True)
    assert await keys.admins() == []


ENDED = ("revoked", "expired", "another scope", "a prefix wildcard")


@pytest.mark.parametrize("other", ENDED)
async def test_former_administrator_does_not_count(keys: Keys, own_database: str, other: str) -> None:
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
async def test_last_administrator_cannot_lose_rights_by_update(keys: Keys, changes: KeyChanges) -> None:
    last = await keys.new_admin()
    before = await keys.get(id_of(last))
    for actor in (last, OPERATOR):
        with pytest.raises(Conflict, match="last administrator"):
            await keys.admin.lifecycle.update(id_of(last), changes, actor)
    assert await keys.get(id_of(last)) == before
    await keys.new_admin()
    await keys.admin.lifecycle.update(id_of(last), changes, last)


@pytest.mark.parametrize("way", ["revoke", "demote", "end"])
async def test_expiring_administrator_does_not_count_as_other(keys: Keys, own_database: str, way: str) -> None:
    """Neither a key with an end, however far, nor one whose only secret has one."""
    last = await keys.new_admin()
    await keys.new_admin(expires_at=datetime.now(UTC) + timedelta(seconds=4))
    await keys.new_admin(expires_at=datetime.now(UTC) + timedelta(days=36500))
    secretless = await keys.new_admin()
    end = "UPDATE api_key_secrets SET not_after = now() + interval '1 day' WHERE key_id = :id"
    sql(own_database, end, id=id_of(secretless))
    changes = KeyChanges(scopes=["platform:chat"]) if way == "demote" else KeyChanges(expires_at=FAR)
    change = keys.revoke(last) if way == "revoke" else keys.admin.lifecycle.update(id_of(last), changes, last)
    with pytest.raises(Conflict, match="last administrator"):
        await change
    assert id_of(last) in await keys.admins()
    await keys.new_admin()
    assert (await keys.revoke(last)).revoked_at is not None


async def test_expiring_administrator_cannot_go_as_last(keys: Keys) -> None:
    """Without one that stays, an administrator that ends is the last one that can create it."""
    ending = await keys.new_admin(expires_at=FAR)
    sooner = KeyChanges(expires_at=FAR - timedelta(days=1))
    with pytest.raises(Conflict, match="last administrator"):
        await keys.revoke(ending)
    with pytest.raises(Conflict, match="last administrator"):
        await keys.admin.lifecycle.update(id_of(ending), sooner, ending)
    endless = await keys.admin.lifecycle.update(id_of(ending), KeyChanges(expires_at=None), ending)
    assert endless.expires_at is None


async def test_expiring_administrator_can_go_if_another_stays(keys: Keys) -> None:
    stays, ending = await keys.new_admin(), await keys.new_admin(expires_at=FAR)
    sooner = KeyChanges(expires_at=FAR - timedelta(days=1))
    await keys.admin.lifecycle.update(id_of(ending), sooner, ending)
    await keys.revoke(ending)
    assert await keys.admins() == [id_of(stays)]


async def test_concurrent_expiry_and_revocation_keep_one(keys: Keys) -> None:
    for _ in range(10):
        one, two = await keys.new_admin(), await keys.new_admin()
        end = keys.admin.lifecycle.update(id_of(one), KeyChanges(expires_at=FAR), one)
        outcomes = await asyncio.gather(end, keys.revoke(two), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "KeyRecord"]
        staying = [key_id for key_id in await keys.admins() if (await keys.get(key_id)).expires_at is None]
        assert len(staying) == 1
        for key_id in await keys.admins():
            await keys.admin.lifecycle.revoke(key_id, "a test", OPERATOR, force=True)


async def test_last_administrator_can_be_changed_otherwise(keys: Keys) -> None:
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
async def test_concurrent_revocation_of_two_keeps_one(keys: Keys, ways: Any) -> None:
    for _ in range(10):
        pair = await keys.new_admin(), await keys.new_admin()
        outcomes = await asyncio.gather(
            *(way(keys, actor) for way, actor in zip(ways, pair, strict=True)), return_exceptions=True
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "KeyRecord"]
        (left,) = await keys.admins()
        await keys.admin.lifecycle.revoke(left, "a test", OPERATOR, force=True)


async def test_concurrent_revocation_keeps_last_administrator(keys: Keys) -> None:
    actors = [await keys.new_admin() for _ in range(10)]
    outcomes = await asyncio.gather(*map(keys.revoke, actors), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict"] + ["KeyRecord"] * 9
    assert len(await keys.admins()) == 1


async def test_mutual_revocation_keeps_one_administrator(keys: Keys) -> None:
    for _ in range(10):
        one, two = await keys.new_admin(), await keys.new_admin()
        revoke = keys.admin.lifecycle.revoke
        outcomes = await asyncio.gather(
            revoke(id_of(two), "a test", one), revoke(id_of(one), "a test", two), return_exceptions=True
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["InvalidApiKey", "KeyRecord"]
        (left,) = await keys.admins()
        await revoke(left, "a test", OPERATOR, force=True)


# --- bootstrap


async def test_bootstrap_is_refused_with_active_administrator(keys: Keys, own_database: str) -> None:
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


async def test_concurrent_bootstraps_create_one_administrator(keys: Keys) -> None:
    outcomes = await asyncio.gather(*(keys.bootstrap() for _ in range(10)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict"] * 9 + ["KeyRecord"]
    assert len(await keys.admins()) == 1


# --- over HTTP


@pytest.fixture
def own_gateway(own_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway({**own_environment, "PLATFORM_API_KEY_PEPPER": BOTH}, tmp_path_factory.mktemp("own")) as running:
        yield running


async def test_http_has_neither_bootstrap_nor_force(
    keys: Keys, own_gateway: Gateway, client: httpx.AsyncClient
) -> None:
    record, token = await keys.new("platform:*")
    assert await keys.admin.keys.secrets_by_pepper() == {1: 1}
    api = Api(client, own_gateway.base_url, token.text)
    assert (await api.call("POST", "/bootstrap", json={})).status_code == 405  # the path of a key's id
    forced = await api.call("POST", f"/{record.key_id}/revoke", json={"reason": "a test", "force": True})
    assert forced.status_code == 422
    queried = await api.call("POST", f"/{record.key_id}/revoke?force=true", json={"reason": "a test"})
    assert (queried.status_code, queried.json()["error"]["code"]) == (422, "validation_error")
    demoted = await api.update(record.key_id, scopes=["platform:chat"])
    assert (demoted.status_code, demoted.json()["error"]["code"]) == (409, "conflict")
    assert (await api.show(record.key_id)).json()["scopes"] == ["platform:*"]
    assert await api.use(token.text) == [200]
    assert await keys.admin.keys.secrets_by_pepper() == {2: 1}, "this gateway has both peppers"


async def test_actor_is_limited_to_its_grants_on_every_path(keys: Keys) -> None:
    """The rules sit in the lifecycle, not in the routes."""
    target, _ = await keys.new("platform:embeddings")
    lesser = await keys.new_actor("platform:api_keys:manage", "platform:chat")
    new = NewKey("n", "tests", ["platform:embeddings"], "test")
    lifecycle = keys.admin.lifecycle
    for attempt in (
        lifecycle.create(new, keys.peppers, lesser),
        lifecycle.update(target.key_id, KeyChanges(name="mine"), lesser),
        lifecycle.rotate(target.key_id, 0, keys.peppers, lesser),
        lifecycle.revoke(target.key_id, "a test", lesser, force=True),
    ):
        with pytest.raises(InsufficientScope, match="platform:embeddings"):
            await attempt
    assert (await keys.get(target.key_id)) == target


# --- the actor's own key is read again


NARROWER: dict[str, KeyChanges] = {
    "scopes": KeyChanges(scopes=["platform:api_keys:manage"]),
    "models": KeyChanges(allowed_models=[]),
    "owner": KeyChanges(owner="another"),
    "end": KeyChanges(expires_at=FAR),
}


@pytest.mark.parametrize("change", NARROWER)
async def test_actor_is_limited_to_its_current_key(keys: Keys, change: str) -> None:
    """A caller comes from a cache; its key may have changed since."""
    target, _ = await keys.new()
    actor = await keys.new_actor("platform:api_keys:manage", "platform:chat")
    new = NewKey("n", "tests", ["platform:chat"], "test")
    await keys.admin.lifecycle.create(new, keys.peppers, actor)
    await keys.admin.lifecycle.update(id_of(actor), NARROWER[change], OPERATOR)
    for attempt in (
        keys.admin.lifecycle.create(new, keys.peppers, actor),
        keys.admin.lifecycle.update(target.key_id, KeyChanges(name="mine"), actor),
        keys.admin.lifecycle.rotate(target.key_id, 0, keys.peppers, actor),
        keys.admin.lifecycle.revoke(target.key_id, "a test", actor),
    ):
        with pytest.raises((InsufficientScope, ValidationFailed, NotFound)):
            await attempt
    assert await keys.get(target.key_id) == target


@pytest.mark.parametrize("ended", ["revoked", "expired", "rotated", "grace over", "gone"])
@pytest.mark.parametrize("scope", ["platform:*", "platform:api_keys:manage"])
async def test_actor_with_ended_key_or_secret_is_refused(keys: Keys, own_database: str, ended: str, scope: str) -> None:
    """With a secret that rotation ended, its thief could otherwise rotate once more and own the key."""
    await keys.new_admin()
    target, _ = await keys.new()
    actor = await keys.new_actor(scope, "platform:chat")
    lifecycle = keys.admin.lifecycle
    match ended:
        case "revoked":
            await lifecycle.revoke(id_of(actor), "a test", OPERATOR)
        case "expired":
            sql(own_database, "UPDATE api_keys SET expires_at = now() WHERE key_id = :id", id=id_of(actor))
        case "rotated":
            await lifecycle.rotate(id_of(actor), 0, keys.peppers, actor)
        case "grace over":
            await lifecycle.rotate(id_of(actor), 3600, keys.peppers, actor)
            sql(own_database, "UPDATE api_key_secrets SET not_after = now() WHERE not_after IS NOT NULL")
        case _:
            actor = Actor("key:" + "0" * 12, ActorKey("0" * 12, datetime.now(UTC)))
    changes = sql(own_database, "SELECT count(*) AS count FROM audit_events")
    for attempt in (
        lifecycle.create(NewKey("n", "tests", ["platform:chat"], "test"), keys.peppers, actor),
        lifecycle.update(target.key_id, KeyChanges(name="mine"), actor),
        lifecycle.rotate(target.key_id, 0, keys.peppers, actor),
        lifecycle.rotate(id_of(actor), 0, keys.peppers, actor),
        lifecycle.revoke(target.key_id, "a test", actor),
        lifecycle.revoke("1" * 12, "a test", actor),
    ):
        with pytest.raises(InvalidApiKey):
            await attempt
    assert sql(own_database, "SELECT count(*) AS count FROM audit_events") == changes


async def test_both_secrets_of_actor_manage_during_grace(keys: Keys) -> None:
    actor = await keys.new_actor("platform:api_keys:manage")
    await keys.admin.lifecycle.rotate(id_of(actor), 3600, keys.peppers, actor)
    newer = await keys.actor(id_of(actor))
    assert newer.key != actor.key
    for each in (actor, newer):
        await keys.admin.lifecycle.update(id_of(actor), KeyChanges(name="x"), each)


@pytest.mark.parametrize("scope", ["platform:*", "platform:api_keys:manage"])
async def test_old_secret_grants_nothing_beyond_its_end(keys: Keys, scope: str) -> None:
    """With a leaked secret in its grace period, its thief could otherwise stay, and lock the owner out."""
    target, _ = await keys.new()
    old = await keys.new_actor(scope, "platform:chat")
    lifecycle = keys.admin.lifecycle
    await lifecycle.rotate(id_of(old), 3600, keys.peppers, OPERATOR)
    newer = await keys.actor(id_of(old))
    for new in (None, FAR):
        with pytest.raises(ValidationFailed) as caught:
            await lifecycle.create(NewKey("n", "tests", ["platform:chat"], "test", None, new), keys.peppers, old)
        assert "new secret" in str(caught.value.details)
    for attempt in (
        lifecycle.rotate(id_of(old), 0, keys.peppers, old),
        lifecycle.rotate(target.key_id, 0, keys.peppers, old),
        lifecycle.update(target.key_id, KeyChanges(scopes=["platform:chat"]), old),
        lifecycle.update(target.key_id, KeyChanges(expires_at=FAR), old),
    ):
        with pytest.raises(ValidationFailed):
            await attempt
    soon = datetime.now(UTC) + timedelta(seconds=1800)
    short, _ = await lifecycle.create(NewKey("n", "tests", ["platform:chat"], "test", None, soon), keys.peppers, old)
    await lifecycle.rotate(short.key_id, 0, keys.peppers, old)
    await lifecycle.revoke(short.key_id, "a test", old)
    await lifecycle.rotate(id_of(old), 0, keys.peppers, newer)


async def test_old_secret_extends_no_key_beyond_its_end(keys: Keys) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1800)
    target, _ = await keys.new(expires_at=soon)
    old = await keys.new_admin()
    await keys.admin.lifecycle.rotate(id_of(old), 3600, keys.peppers, OPERATOR)
    with pytest.raises(ValidationFailed, match="more than your own"):
        await keys.admin.lifecycle.rotate(target.key_id, 0, keys.peppers, old, timedelta(days=1))
    assert await keys.get(target.key_id) == target


async def test_actor_with_unknown_secret_is_refused(keys: Keys) -> None:
    actor = await keys.new_admin()
    unknown = Actor(actor.name, ActorKey(id_of(actor), None))
    with pytest.raises(InvalidApiKey):
        await keys.admin.lifecycle.create(NewKey("n", "o", ["platform:chat"], "test"), keys.peppers, unknown)


async def test_change_that_waits_for_rotation_is_refused(keys: Keys, own_database: str) -> None:
    """The thief's rotation waits for the owner's, and must not read the secrets of before it."""
    for _ in range(5):
        owner = await keys.new_actor("platform:api_keys:manage")
        rotate = keys.admin.lifecycle.rotate
        outcomes = await asyncio.gather(
            *(rotate(id_of(owner), 0, keys.peppers, owner) for _ in range(4)), return_exceptions=True
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["InvalidApiKey"] * 3 + ["tuple"]


async def test_mutual_changes_do_not_deadlock(keys: Keys) -> None:
    actors = [await keys.new_actor("platform:api_keys:manage") for _ in range(4)]
    update = keys.admin.lifecycle.update
    changes = [update(id_of(target), KeyChanges(name="x"), actor) for actor in actors for target in actors]
    assert len(await asyncio.gather(*changes)) == 16
