"""Read and lock the two keys of a change in its transaction: the target, which changes, and the actor's own key.

The actor's key is read again although the request was authenticated: a caller's attributes come from a cache, and the
body may arrive long after the credentials. A concurrent change or revocation of the actor's key waits for this
transaction, or this transaction waits for it.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from platform_app.auth.keys.records import Actor, ActorKey, KeyRecord
from platform_app.auth.keys.store import no_such_key, record_of
from platform_app.auth.permissions import ALL
from platform_app.db.models import ApiKey, ApiKeySecret
from platform_app.errors import InvalidApiKey


@dataclass(frozen=True, slots=True)
class Holder:
    """The actor of a change, as the database has its key now."""

    key: KeyRecord | None
    """The actor's own key; None for the operator on the command line."""
    secret_ends_at: datetime | None
    """When the secret of the request ends; None unless a rotation replaced it."""


@dataclass(frozen=True, slots=True)
class LockedKeys:
    """The keys of a change; both are locked until the transaction ends."""

    target: KeyRecord
    holder: Holder


async def lock_keys(connection: AsyncConnection, key_id: str, actor: Actor) -> LockedKeys:
    """Lock the key with this id and the actor's key.

    Raises:
        NotFound: no key has this id, or it belongs to another owner and the actor lacks `platform:*`.
        InvalidApiKey: the actor's key or its secret is no longer valid.
    """
    if actor.key is None:
        return LockedKeys(await _lock_target(connection, key_id), Holder(None, None))
    # Another owner's key is not locked: the time that a refusal takes must not reveal that the key exists.
    if not await _is_within_reach(connection, key_id, actor.key):
        await lock_holder(connection, actor)
        raise no_such_key(key_id)
    # Locked in the order of their ids, so that two administrators who change each other's keys do not deadlock.
    if key_id <= actor.key.key_id:
        target = await _lock_target(connection, key_id)
        key, ends_at = await _lock_holder(connection, actor.key)
    else:
        key, ends_at = await _lock_holder(connection, actor.key)
        target = await _lock_target(connection, key_id)
    if ALL not in key.scopes and target.owner != key.owner:
        raise no_such_key(key_id)
    return LockedKeys(target, Holder(key, ends_at))


async def lock_holder(connection: AsyncConnection, actor: Actor) -> Holder:
    """Lock the actor's own key, if it has one.

    Raises:
        InvalidApiKey: the key or its secret is no longer valid.
    """
    return Holder(None, None) if actor.key is None else Holder(*await _lock_holder(connection, actor.key))


async def _is_within_reach(connection: AsyncConnection, key_id: str, key: ActorKey) -> bool:
    target, holder = aliased(ApiKey), aliased(ApiKey)
    statement = select(
        exists().where(
            target.key_id == key_id,
            holder.key_id == key.key_id,
            or_(holder.scopes.contains([ALL]), holder.owner == target.owner),
        )
    )
    return bool((await connection.execute(statement)).scalar_one())


async def _lock_target(connection: AsyncConnection, key_id: str) -> KeyRecord:
    statement = select(ApiKey.__table__).where(ApiKey.key_id == key_id).with_for_update()
    row = (await connection.execute(statement)).mappings().one_or_none()
    if row is None:
        raise no_such_key(key_id)
    return record_of(row)


async def _lock_holder(connection: AsyncConnection, key: ActorKey) -> tuple[KeyRecord, datetime | None]:
    """Return the actor's key, and when its secret ends."""
    # FOR KEY SHARE blocks changes of this key, which take FOR UPDATE, but not other changes made with this key.
    statement = (
        select(ApiKey.__table__)
        .where(ApiKey.key_id == key.key_id, ApiKey.revoked_at.is_(None))
        .where(or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.clock_timestamp()))
        .with_for_update(read=True, key_share=True)
    )
    row = (await connection.execute(statement)).mappings().one_or_none()
    # A separate statement: one that waited for the lock would still see the secrets from before a rotation.
    live = select(ApiKeySecret.not_after).where(
        ApiKeySecret.key_id == key.key_id,
        ApiKeySecret.created_at == key.secret_created_at,
        or_(ApiKeySecret.not_after.is_(None), ApiKeySecret.not_after > func.clock_timestamp()),
    )
    secret = (await connection.execute(live)).one_or_none()
    if row is None or secret is None:
        raise InvalidApiKey
    return record_of(row), secret.not_after
