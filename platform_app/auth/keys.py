"""API keys in PostgreSQL: their lifecycle and their SQL. HTTP and CLI both go through here.

A change and its audit event share one transaction: neither exists without the other.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping, func, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from platform_app.auth.pepper import Peppers
from platform_app.auth.permissions import GRANTS, unknown_grants
from platform_app.auth.tokens import KeyEnvironment, Token, generate_token
from platform_app.db.models import ApiKey, ApiKeySecret, AuditEvent
from platform_app.errors import Conflict, NotFound, ValidationFailed

PAGE_LIMIT = 200

DATABASE_ERRORS = (DBAPIError, PoolTimeout, TimeoutError, OSError)
"""What a database that is down, refusing, full or frozen raises through SQLAlchemy and asyncpg. DBAPIError itself is
what SQLAlchemy makes of "too many clients" and of a session that an administrator ended."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change, and in which request; goes into the audit event."""

    name: str
    request_id: str | None = None
    trace_id: str | None = None
    client_address: str | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """What the creator of a key decides."""

    name: str
    owner: str
    scopes: Sequence[str]
    environment: KeyEnvironment
    allowed_models: Sequence[str] | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as its owner may see it: everything but the secret."""

    key_id: str
    name: str
    owner: str
    environment: str
    scopes: Sequence[str]
    allowed_models: Sequence[str] | None
    limits: dict[str, Any] | None
    expires_at: datetime | None
    created_at: datetime
    created_by: str
    revoked_at: datetime | None
    revoked_by: str | None
    revoked_reason: str | None
    last_used_at: datetime | None

    def status(self, now: datetime | None = None) -> str:
        """active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= (now or datetime.now(UTC)):
            return "expired"
        return "active"


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """One of a key's secrets, as auth needs it."""

    digest: bytes
    pepper_version: int
    not_after: datetime | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key and its secrets, as auth needs them."""

    record: KeyRecord
    secrets: tuple[StoredSecret, ...]


class KeyStore:
    """The keys of this platform. Every method is one short transaction."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # Reads need no BEGIN and COMMIT: one round trip each.
        self._reader = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def lookup(self, key_id: str) -> StoredKey | None:
        """The key and its secrets in one statement, or None; raises DATABASE_ERRORS as they come."""
        statement = (
            select(ApiKey.__table__, ApiKeySecret.digest, ApiKeySecret.pepper_version, ApiKeySecret.not_after)
            .join(ApiKeySecret, ApiKeySecret.key_id == ApiKey.key_id)
            .where(ApiKey.key_id == key_id)
        )
        async with self._reader.connect() as connection:
            rows = (await connection.execute(statement)).mappings().all()
        if not rows:
            return None
        secrets = tuple(StoredSecret(row["digest"], row["pepper_version"], row["not_after"]) for row in rows)
        return StoredKey(_record(rows[0]), secrets)

    async def create(self, new: NewKey, peppers: Peppers, actor: Actor) -> tuple[KeyRecord, Token]:
        """Make a key; the token in the answer is the only time that the secret is seen.

        Raises:
            ValidationFailed: naming each field that is wrong.
        """
        _validate(new)
        token = generate_token(new.environment)
        async with self._engine.begin() as connection:
            row = await connection.execute(
                insert(ApiKey)
                .values(
                    key_id=token.key_id,
                    name=new.name,
                    owner=new.owner,
                    environment=new.environment,
                    scopes=sorted(set(new.scopes)),
                    allowed_models=None if new.allowed_models is None else sorted(set(new.allowed_models)),
                    expires_at=new.expires_at,
                    created_by=actor.name,
                )
                .returning(ApiKey.__table__)
            )
            record = _record(row.mappings().one())
            await connection.execute(
                insert(ApiKeySecret).values(
                    digest=peppers.digest(token.text), key_id=token.key_id, pepper_version=peppers.current
                )
            )
            await _audit(connection, actor, "api_key.create", record.key_id, after=record)
        return record, token

    async def get(self, key_id: str) -> KeyRecord:
        """One key.

        Raises:
            NotFound: there is none of this id.
        """
        async with self._reader.connect() as connection:
            rows = await connection.execute(select(ApiKey.__table__).where(ApiKey.key_id == key_id))
            row = rows.mappings().one_or_none()
        if row is None:
            raise _no_such_key(key_id)
        return _record(row)

    async def list(self, *, owner: str | None = None, limit: int = PAGE_LIMIT) -> list[KeyRecord]:
        """The newest keys first, at most `limit`."""
        statement = select(ApiKey.__table__).order_by(ApiKey.created_at.desc(), ApiKey.key_id.desc())
        if owner is not None:
            statement = statement.where(ApiKey.owner == owner)
        async with self._reader.connect() as connection:
            rows = await connection.execute(statement.limit(min(limit, PAGE_LIMIT)))
            return [_record(row) for row in rows.mappings()]

    async def revoke(self, key_id: str, reason: str, actor: Actor) -> KeyRecord:
        """End a key for good.

        Raises:
            NotFound: there is none of this id.
            Conflict: it was revoked before; the first revocation stands.
        """
        if not reason.strip():
            raise ValidationFailed("The request is not valid.", details=["reason: is required; say why"])
        async with self._engine.begin() as connection:
            before = await _locked(connection, key_id)
            if before.revoked_at is not None:
                raise Conflict(f"The key {key_id} was already revoked at {before.revoked_at.isoformat()}.")
            row = await connection.execute(
                update(ApiKey)
                .where(ApiKey.key_id == key_id)
                .values(revoked_at=func.now(), revoked_by=actor.name, revoked_reason=reason)
                .returning(ApiKey.__table__)
            )
            after = _record(row.mappings().one())
            await _audit(connection, actor, "api_key.revoke", key_id, before=before, after=after, reason=reason)
        return after


async def _locked(connection: AsyncConnection, key_id: str) -> KeyRecord:
    rows = await connection.execute(select(ApiKey.__table__).where(ApiKey.key_id == key_id).with_for_update())
    row = rows.mappings().one_or_none()
    if row is None:
        raise _no_such_key(key_id)
    return _record(row)


async def _audit(
    connection: AsyncConnection,
    actor: Actor,
    action: str,
    target: str,
    *,
    before: KeyRecord | None = None,
    after: KeyRecord | None = None,
    reason: str | None = None,
) -> None:
    await connection.execute(
        insert(AuditEvent).values(
            actor=actor.name,
            action=action,
            target=target,
            before=_plain(before),
            after=_plain(after),
            reason=reason,
            request_id=actor.request_id,
            trace_id=actor.trace_id,
            client_address=actor.client_address,
        )
    )


def _plain(record: KeyRecord | None) -> dict[str, Any] | None:
    if record is None:
        return None
    fields = asdict(record)
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}


_RECORD_FIELDS = tuple(KeyRecord.__dataclass_fields__)


def _record(row: RowMapping) -> KeyRecord:
    return KeyRecord(**{name: row[name] for name in _RECORD_FIELDS})


def _no_such_key(key_id: str) -> NotFound:
    return NotFound(f"There is no API key with the id {key_id!r}.")


def _validate(new: NewKey) -> None:
    problems = [*_text_problems("name", new.name), *_text_problems("owner", new.owner)]
    if not new.scopes:
        problems.append(f"scopes: at least one is needed, of {_listed(GRANTS)}")
    unknown = unknown_grants(new.scopes)
    problems += [f"scopes: {scope!r} does not exist; choose from {_listed(GRANTS)}" for scope in unknown]
    if new.expires_at is not None:
        if new.expires_at.tzinfo is None:
            problems.append("expires_at: a time zone is needed, for example 2030-01-31T00:00:00Z")
        elif new.expires_at <= datetime.now(UTC):
            problems.append("expires_at: lies in the past")
    if problems:
        raise ValidationFailed("The API key is not valid.", details=problems)


def _text_problems(field: str, value: str) -> list[str]:
    if not 1 <= len(value.strip()) <= 200:
        return [f"{field}: 1 to 200 characters are needed"]
    if not value.isprintable():
        return [f"{field}: control characters are not allowed"]
    return []


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
