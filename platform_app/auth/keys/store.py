"""Read API keys from PostgreSQL. `service.py` changes them."""

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    RowMapping,
    Select,
    Text,
    any_,
    bindparam,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from platform_app.auth.keys.records import KeyFilter, KeyPage, KeyRecord, KeySecrets, StoredKey, StoredSecret
from platform_app.auth.tokens import KEY_ID_PATTERN
from platform_app.db.connections import ask_twice, connect
from platform_app.db.models import ApiKey, ApiKeySecret
from platform_app.errors import NotFound, ValidationFailed

MAX_PAGE = 200

DATABASE_ERRORS = (DBAPIError, PoolTimeout, TimeoutError, OSError)
"""Errors of SQLAlchemy and asyncpg when the database is down, refuses connections, is full or is frozen. SQLAlchemy
raises DBAPIError itself for "too many clients" and for a session that an administrator ended."""

_KEY_ID = re.compile(KEY_ID_PATTERN, re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECRET_COLUMNS = (
    ApiKeySecret.digest,
    ApiKeySecret.pepper_version,
    ApiKeySecret.not_after,
    ApiKeySecret.created_at.label("secret_created_at"),
)


class KeyStore:
    """Reads keys. Each method is one statement; raises DATABASE_ERRORS unchanged."""

    def __init__(self, engine: AsyncEngine) -> None:
        # Single statements need no BEGIN and COMMIT, which saves two round trips.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def lookup(self, key_id: str) -> StoredKey | None:
        """Return the key and its secrets, or None."""
        rows = await self._rows(_with_secrets().where(ApiKey.key_id == key_id))
        return _stored_key(rows) if rows else None

    async def lookup_many(self, key_ids: Sequence[str]) -> dict[str, StoredKey]:
        """Return the keys with these ids that exist, with their secrets."""
        wanted = ApiKey.key_id == any_(bindparam("key_ids", list(key_ids), ARRAY(Text)))
        rows = await self._rows(_with_secrets().where(wanted))
        by_id: dict[str, list[RowMapping]] = {}
        for row in rows:
            by_id.setdefault(row["key_id"], []).append(row)
        return {key_id: _stored_key(found) for key_id, found in by_id.items()}

    async def rehash(self, digest: bytes, new_digest: bytes, pepper_version: int) -> None:
        """Store a secret under a newer pepper. So a pepper rotation completes as keys are used."""
        statement = (
            update(ApiKeySecret)
            .where(ApiKeySecret.digest == digest)
            .values(digest=new_digest, pepper_version=pepper_version)
        )
        async with connect(self._engine) as connection:
            await connection.execute(statement)

    async def _rows(self, statement: Select[Any]) -> Sequence[RowMapping]:
        """Return the rows of a look-up, which a request waits for: without the round trip of a ping."""

        async def ask() -> Sequence[RowMapping]:
            async with self._engine.connect() as connection:
                rows: Sequence[RowMapping] = (await connection.execute(statement)).mappings().all()
                return rows

        return await ask_twice(self._engine, ask)

    async def get(self, key_id: str, *, only_owner: str | None) -> KeyRecord:
        """Return one key. With `only_owner`, keys of other owners are not found.

        Raises:
            NotFound: no key has this id.
        """
        check_key_id(key_id)
        statement = select(ApiKey.__table__).where(ApiKey.key_id == key_id, *_owned_by(only_owner))
        async with connect(self._engine) as connection:
            row = (await connection.execute(statement)).mappings().one_or_none()
        if row is None:
            raise no_such_key(key_id)
        return record_of(row)

    async def list(
        self, wanted: KeyFilter = KeyFilter(), *, only_owner: str | None, limit: int = 50, cursor: str | None = None
    ) -> KeyPage:
        """Return a page of keys, newest first; `cursor` is the `next_cursor` of the previous page.

        With `only_owner`, keys of other owners are left out, whatever the filter and the cursor say.

        Raises:
            ValidationFailed: the cursor is invalid, the limit is not 1 to 200, or a filter contains a NUL character.
        """
        for name, value in (("owner", wanted.owner), ("scope", wanted.scope)):
            if value is not None and "\0" in value:  # PostgreSQL accepts every other character
                raise ValidationFailed("The request is not valid.", details=[f"{name}: contains a NUL character"])
        if not 1 <= limit <= MAX_PAGE:
            raise ValidationFailed("The request is not valid.", details=[f"limit: must be from 1 to {MAX_PAGE}"])
        statement = (
            _filtered(wanted).where(*_owned_by(only_owner)).order_by(ApiKey.created_at.desc(), ApiKey.key_id.desc())
        )
        if cursor is not None:
            statement = statement.where(tuple_(ApiKey.created_at, ApiKey.key_id) < tuple_(*_parse_cursor(cursor)))
        async with connect(self._engine) as connection:
            # One row more than the limit, to know whether there is a next page.
            rows = (await connection.execute(statement.limit(limit + 1))).mappings().all()
        keys = tuple(record_of(row) for row in rows[:limit])
        return KeyPage(keys, _cursor(keys[-1]) if len(rows) > limit else None)

    async def secrets_of(self, key_ids: Sequence[str]) -> dict[str, KeySecrets]:
        """Return the times of the secrets of each of these keys."""
        wanted = ApiKeySecret.key_id == any_(bindparam("key_ids", list(key_ids), ARRAY(Text)))
        statement = select(
            ApiKeySecret.key_id, func.max(ApiKeySecret.created_at), func.max(ApiKeySecret.not_after)
        ).group_by(ApiKeySecret.key_id)
        async with self._engine.connect() as connection:
            rows = await connection.execute(statement.where(wanted))
            return {row[0]: KeySecrets(row[1], row[2]) for row in rows}

    async def secrets_by_pepper(self) -> dict[int, int]:
        """Return the number of valid secrets per pepper version. A version without secrets can be removed."""
        statement = (
            select(ApiKeySecret.pepper_version, func.count())
            .join(ApiKey, ApiKey.key_id == ApiKeySecret.key_id)
            .where(ApiKey.revoked_at.is_(None))
            .where(or_(ApiKeySecret.not_after.is_(None), ApiKeySecret.not_after > func.now()))
            .where(or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()))
            .group_by(ApiKeySecret.pepper_version)
            .order_by(ApiKeySecret.pepper_version)
        )
        async with connect(self._engine) as connection:
            return {row[0]: row[1] for row in await connection.execute(statement)}


def _with_secrets() -> Select[Any]:
    return select(ApiKey.__table__, *_SECRET_COLUMNS).join(ApiKeySecret, ApiKeySecret.key_id == ApiKey.key_id)


def _stored_key(rows: Sequence[RowMapping]) -> StoredKey:
    secrets = tuple(
        StoredSecret(row["digest"], row["pepper_version"], row["not_after"], row["secret_created_at"]) for row in rows
    )
    return StoredKey(record_of(rows[0]), secrets)


def _filtered(wanted: KeyFilter) -> Select[tuple[ApiKey]]:
    statement: Select[tuple[ApiKey]] = select(ApiKey.__table__)
    if wanted.owner is not None:
        statement = statement.where(ApiKey.owner == wanted.owner)
    if wanted.environment is not None:
        statement = statement.where(ApiKey.environment == wanted.environment)
    if wanted.scope is not None:
        statement = statement.where(ApiKey.scopes.contains([wanted.scope]))
    ended = ApiKey.expires_at <= func.now()
    match wanted.status:
        case "revoked":
            return statement.where(ApiKey.revoked_at.is_not(None))
        case "expired":
            return statement.where(ApiKey.revoked_at.is_(None), ended)
        case "active":
            return statement.where(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ~ended))
        case None:
            return statement


def _owned_by(only_owner: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if only_owner is None else (ApiKey.owner == only_owner,)


def _cursor(record: KeyRecord) -> str:
    microseconds = (record.created_at - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(f"{microseconds}.{record.key_id}".encode()).decode().rstrip("=")


def _parse_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        microseconds, _, key_id = text.partition(".")
        if _KEY_ID.fullmatch(key_id) is None:
            raise ValueError
        return _EPOCH + timedelta(microseconds=int(microseconds)), key_id
    except (binascii.Error, ValueError, OverflowError):
        problem = "cursor: is not a next_cursor of this list; leave it out to get the first page"
        raise ValidationFailed("The request is not valid.", details=[problem]) from None


_RECORD_FIELDS = tuple(KeyRecord.__dataclass_fields__)


def record_of(row: RowMapping) -> KeyRecord:
    """Return a row of api_keys as a record."""
    return KeyRecord(**{name: row[name] for name in _RECORD_FIELDS})


def check_key_id(key_id: str) -> None:
    """Raise NotFound for text that cannot be an id; PostgreSQL fails on some of it."""
    if _KEY_ID.fullmatch(key_id) is None:
        raise no_such_key(key_id)


def no_such_key(key_id: str) -> NotFound:
    """Return the error for an unknown id. Text that does not have the form of an id is not repeated: it may be a whole
    key."""
    if _KEY_ID.fullmatch(key_id) is None:
        return NotFound("There is no API key with this id. An id is 12 letters and digits, the third part of a key.")
    return NotFound(f"There is no API key with the id '{key_id}'.")
