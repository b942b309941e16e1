"""Create, change, rotate and revoke keys, for the API and the command line.

Each change and its audit event are one transaction. After the commit an event is published to every process.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, delete, exists, func, insert, literal, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from platform_app.auth.authenticator import PepperSource
from platform_app.auth.keys.audit import write_audit_event
from platform_app.auth.keys.events import KeyEvents
from platform_app.auth.keys.locked_keys import Holder, LockedKeys, lock_holder, lock_keys
from platform_app.auth.keys.records import Actor, KeyChanges, KeyRecord, NewKey
from platform_app.auth.keys.rules import (
    KeyRules,
    check_grace,
    check_reason,
    check_secret_end,
    gives_power,
    is_active_admin,
    weakens_admin,
)
from platform_app.auth.keys.store import check_key_id, record_of
from platform_app.auth.pepper import Peppers
from platform_app.auth.permissions import ALL
from platform_app.auth.tokens import Token, generate_token
from platform_app.db.advisory_locks import AdvisoryLock
from platform_app.db.connections import begin
from platform_app.db.models import ApiKey, ApiKeySecret
from platform_app.errors import Conflict, PlatformError, SecretError
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

_log = get_logger("auth")


class KeyLifecycle:
    """Each method is one short transaction; raises PlatformErrors, and DATABASE_ERRORS unchanged."""

    def __init__(
        self, engine: AsyncEngine, rules: KeyRules, events: KeyEvents, peppers: PepperSource | None = None
    ) -> None:
        """
        Args:
            engine: the database.
            rules: what a key may have.
            events: announces a change to every process.
            peppers: the live ones; without them, a secret under any pepper counts as valid.
        """
        self._engine = engine
        self._rules = rules
        self._events = events
        self._peppers = peppers

    async def create(self, new: NewKey, peppers: Peppers, actor: Actor) -> tuple[KeyRecord, Token]:
        """Create a key. The token that is returned contains the secret, which is not stored.

        Raises:
            ValidationFailed: names each invalid field.
            ValidationFailed, InsufficientScope: the actor would grant more than its own key has, or for longer than its
                secret is valid.
            InvalidApiKey: the actor's key or its secret is no longer valid.
        """
        fields = _columns(new)
        self._rules.check_fields(fields)
        async with _counted("create", actor), begin(self._engine) as connection:
            holder = await lock_holder(connection, actor)
            self._rules.check_grant(holder.key, fields)
            check_secret_end(holder.secret_ends_at, new.expires_at)
            return await _insert(connection, fields, peppers, actor)

    async def bootstrap(self, new: NewKey, peppers: Peppers, actor: Actor) -> tuple[KeyRecord, Token]:
        """Create the first administrator's key.

        Raises:
            Conflict: an active administrator's key exists, which can create others.
        """
        fields = _columns(new) | {"scopes": [ALL]}
        self._rules.check_fields(fields)
        async with begin(self._engine) as connection:
            await _lock_admins(connection)
            if (existing := await _active_admin(connection)) is not None:
                raise Conflict(f"An active administrator's key exists ({existing}). Use it to create others.")
            return await _insert(connection, fields, peppers, actor)

    async def update(self, key_id: str, changes: KeyChanges, actor: Actor) -> KeyRecord:
        """Change the given fields.

        Raises:
            NotFound: no key has this id, or the actor may not manage its owner's keys.
            ValidationFailed, InsufficientScope, InvalidApiKey: as for `create`; the actor must also be allowed to
                manage the key as it is.
            Conflict: the key is revoked, or no administrator's key without an expiry would remain.
        """
        fields = changes.fields()
        self._rules.check_fields(fields)
        live = await self._live_versions() if fields.keys() & {"expires_at", "scopes"} else None
        async with self._change("update", key_id, actor) as (connection, keys):
            before = keys.target
            self._rules.check_grant(keys.holder.key, fields)
            if gives_power(fields):
                check_secret_end(keys.holder.secret_ends_at, fields.get("expires_at", before.expires_at))
            if weakens_admin(before, fields):
                await _keep_an_admin(connection, key_id, live)
            after = await _write(connection, key_id, _sorted(fields)) if fields else before
            await write_audit_event(connection, actor, "api_key.update", key_id, before=before, after=after)
        await self._events.publish_change(key_id)
        return after

    async def rotate(
        self,
        key_id: str,
        grace_period_seconds: int,
        peppers: Peppers,
        actor: Actor,
        extend: timedelta | Literal["as before"] | None = None,
    ) -> tuple[KeyRecord, Token]:
        """Add a new secret, which is valid at once. The current secret stays valid for the grace period; older ones are
        deleted.

        With `extend`, the key then expires that long from now; "as before" is the time that the current secret had. An
        expired key is valid again.

        Raises:
            NotFound: no key has this id, or the actor may not manage its owner's keys.
            ValidationFailed, InsufficientScope, InvalidApiKey: as for `update`.
            Conflict: the key is revoked, or expired and not extended; or it has no expiry that could be extended.
            ValidationFailed: the grace period is out of range.
        """
        check_grace(grace_period_seconds)
        async with self._change("rotate", key_id, actor) as (connection, keys):
            record = keys.target
            if extend is None and record.status() == "expired":
                raise Conflict(f"The key {key_id} has expired. Change expires_at first, or create a new key.")
            token = generate_token("live" if record.environment == "live" else "test", key_id)
            old = ApiKeySecret.key_id == key_id
            after = record if extend is None else await self._extend(connection, record, extend, keys.holder)
            check_secret_end(keys.holder.secret_ends_at, after.expires_at)
            await connection.execute(delete(ApiKeySecret).where(old, ApiKeySecret.not_after.is_not(None)))
            if grace_period_seconds:
                until = func.now() + literal(timedelta(seconds=grace_period_seconds))
                await connection.execute(update(ApiKeySecret).where(old).values(not_after=until))
            else:
                await connection.execute(delete(ApiKeySecret).where(old))
            await _insert_secret(connection, token, peppers)
            reason = f"grace period {grace_period_seconds} s"
            await write_audit_event(
                connection, actor, "api_key.rotate", key_id, before=record, after=after, reason=reason
            )
        await self._events.publish_change(key_id)
        return after, token

    async def _extend(
        self,
        connection: AsyncConnection,
        record: KeyRecord,
        extend: timedelta | Literal["as before"],
        holder: Holder,
    ) -> KeyRecord:
        if record.expires_at is None:
            raise Conflict(f"The key {record.key_id} does not expire, so there is no expiry to extend.")
        if isinstance(extend, str):
            made = select(func.max(ApiKeySecret.created_at)).where(ApiKeySecret.key_id == record.key_id)
            extend = record.expires_at - (await connection.execute(made)).scalar_one()
        fields = {"expires_at": datetime.now(UTC) + extend}
        self._rules.check_fields(fields)
        self._rules.check_grant(holder.key, fields)
        return await _write(connection, record.key_id, fields)

    async def revoke(self, key_id: str, reason: str, actor: Actor, *, force: bool = False) -> KeyRecord:
        """Revoke a key permanently.

        Raises:
            NotFound: no key has this id, or the actor may not manage its owner's keys.
            ValidationFailed, InsufficientScope, InvalidApiKey: as for `update`.
            Conflict: the key was revoked before, which does not change; or no administrator's key without an expiry
                would remain and `force` is not set.
            ValidationFailed: the reason is empty or invalid.
        """
        check_reason(reason)
        live = None if force else await self._live_versions()
        async with self._change("revoke", key_id, actor) as (connection, keys):
            before = keys.target
            if is_active_admin(before) and not force:
                await _keep_an_admin(connection, key_id, live)
            values = {"revoked_at": func.now(), "revoked_by": actor.name, "revoked_reason": reason}
            after = await _write(connection, key_id, values)
            await write_audit_event(
                connection, actor, "api_key.revoke", key_id, before=before, after=after, reason=reason
            )
        await self._events.publish_change(key_id)
        return after

    async def _live_versions(self) -> Collection[int] | None:
        """Return the versions of the live peppers; None if they cannot be read, since a leaked key must be revocable
        while the secret store is down."""
        if self._peppers is None:
            return None
        try:
            return list((await self._peppers.current()).by_version)
        except SecretError:
            return None

    @asynccontextmanager
    async def _change(
        self, action: str, key_id: str, actor: Actor
    ) -> AsyncIterator[tuple[AsyncConnection, LockedKeys]]:
        """Open a transaction that locks the key. The key exists, is not revoked, and the actor may manage it."""
        check_key_id(key_id)
        async with _counted(action, actor, key_id), begin(self._engine) as connection:
            keys = await lock_keys(connection, key_id, actor)
            record = keys.target
            self._rules.check_manage(keys.holder.key, record)
            if record.revoked_at is not None:
                raise Conflict(f"The key {key_id} was revoked at {record.revoked_at.isoformat()}, which is final.")
            yield connection, keys


@asynccontextmanager
async def _counted(action: str, actor: Actor, key_id: str | None = None) -> AsyncIterator[None]:
    """Count a change by its result, and log a refusal: it may be an attempt to gain rights."""
    try:
        yield
    except PlatformError as error:
        metrics.KEY_CHANGES.labels(action, error.code).inc()
        _log.warning("key_change_refused", action=action, actor=actor.name, target_key_id=key_id, reason=error.code)
        raise
    metrics.KEY_CHANGES.labels(action, "ok").inc()


async def _insert(
    connection: AsyncConnection, fields: dict[str, Any], peppers: Peppers, actor: Actor
) -> tuple[KeyRecord, Token]:
    token = generate_token(fields["environment"])
    values = {**_sorted(fields), "key_id": token.key_id, "created_by": actor.name}
    row = await connection.execute(insert(ApiKey).values(values).returning(ApiKey.__table__))
    record = record_of(row.mappings().one())
    await _insert_secret(connection, token, peppers)
    await write_audit_event(connection, actor, "api_key.create", record.key_id, after=record)
    return record, token


async def _insert_secret(connection: AsyncConnection, token: Token, peppers: Peppers) -> None:
    values = {
        "digest": peppers.digest(token.text),
        "key_id": token.key_id,
        "pepper_version": peppers.current,
        # The statement's time: under the row lock it differs for each secret of a key (see ActorKey). The transaction's
        # start time may not.
        "created_at": func.clock_timestamp(),
    }
    await connection.execute(insert(ApiKeySecret).values(values))


async def _write(connection: AsyncConnection, key_id: str, values: dict[str, Any]) -> KeyRecord:
    statement = update(ApiKey).where(ApiKey.key_id == key_id).values(values).returning(ApiKey.__table__)
    return record_of((await connection.execute(statement)).mappings().one())


async def _lock_admins(connection: AsyncConnection) -> None:
    await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": AdvisoryLock.LAST_ADMINISTRATOR})


async def _active_admin(connection: AsyncConnection) -> str | None:
    statement = select(ApiKey.key_id).where(active(), ApiKey.scopes.contains([ALL])).limit(1)
    return (await connection.execute(statement)).scalar_one_or_none()


async def _keep_an_admin(connection: AsyncConnection, key_id: str, live: Collection[int] | None) -> None:
    """Raise Conflict unless another administrator's key remains that does not expire and has a secret without an end,
    under one of the `live` versions of the pepper; None means any version."""
    await _lock_admins(connection)
    endless_secret = exists().where(ApiKeySecret.key_id == ApiKey.key_id, ApiKeySecret.not_after.is_(None))
    if live is not None:
        endless_secret = endless_secret.where(ApiKeySecret.pepper_version.in_(live))
    staying = select(ApiKey.key_id).where(
        ApiKey.key_id != key_id,
        ApiKey.scopes.contains([ALL]),
        ApiKey.revoked_at.is_(None),
        ApiKey.expires_at.is_(None),
        endless_secret,
    )
    if (await connection.execute(staying.limit(1))).scalar_one_or_none() is None:
        raise Conflict(
            f"The key {key_id} is the last administrator's key: no other key with {ALL} and without an expiry exists. "
            f"Create one first, or use: flowbiz-platform keys revoke {key_id} --force"
        )


def active() -> ColumnElement[bool]:
    """Return the SQL of KeyRecord.status() == "active"."""
    return and_(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()))


def _columns(new: NewKey) -> dict[str, Any]:
    return {name: getattr(new, name) for name in new.__dataclass_fields__}


def _sorted(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with their lists sorted and without duplicates."""
    lists = {name: sorted(set(fields[name])) for name in ("scopes", "allowed_models") if fields.get(name) is not None}
    return fields | lists
