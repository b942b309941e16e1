"""Plain data about keys: what is stored, what a change contains, and who makes it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from platform_app.auth.tokens import KeyEnvironment

KeyStatus = Literal["active", "expired", "revoked"]


class Unset:
    """The type of UNSET, which marks a field that a change does not contain. None is a value: it clears the field."""


UNSET = Unset()


@dataclass(frozen=True, slots=True)
class ActorKey:
    """The key and the secret with which a change is made.

    The key's scopes and limits are not here: they are read again in the change's transaction, because the cached caller
    may be seconds old.
    """

    key_id: str
    secret_created_at: datetime | None
    """Identifies the secret within its key. With None, every change is refused."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change, and in which request. The audit event stores it."""

    name: str
    key: ActorKey | None = None
    """None for the operator on the command line, who can write to the database anyway and is not restricted."""
    request_id: str | None = None
    trace_id: str | None = None
    client_address: str | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """The fields of a new key that its creator chooses."""

    name: str
    owner: str
    scopes: Sequence[str]
    environment: KeyEnvironment
    allowed_models: Sequence[str] | None = None
    expires_at: datetime | None = None
    limits: Mapping[str, float] | None = None
    """The key's own limits by rule name, in place of the config file's; only for rules that count by key."""


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """The fields of an update; UNSET fields do not change."""

    name: str | Unset = UNSET
    owner: str | Unset = UNSET
    scopes: Sequence[str] | Unset = UNSET
    allowed_models: Sequence[str] | Unset | None = UNSET
    limits: Mapping[str, float] | Unset | None = UNSET
    expires_at: datetime | Unset | None = UNSET

    def fields(self) -> dict[str, Any]:
        """Return the fields that change, by column name."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in values.items() if not isinstance(value, Unset)}


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as its owner may see it: all fields but the secret."""

    key_id: str
    name: str
    owner: str
    environment: str
    scopes: Sequence[str]
    allowed_models: Sequence[str] | None
    limits: Mapping[str, float] | None
    expires_at: datetime | None
    created_at: datetime
    created_by: str
    revoked_at: datetime | None
    revoked_by: str | None
    revoked_reason: str | None
    last_used_at: datetime | None

    def status(self, now: datetime | None = None) -> KeyStatus:
        """Return the key's status; a key that is revoked and expired is revoked."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= (now or datetime.now(UTC)):
            return "expired"
        return "active"

    def plain(self) -> dict[str, Any]:
        """Return the record as data for JSON, with its current status."""
        fields = asdict(self) | {"status": self.status()}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """One of a key's secrets, for the authenticator."""

    digest: bytes = field(repr=False)
    pepper_version: int
    not_after: datetime | None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeySecrets:
    """The times of a key's secrets, for lists."""

    created_at: datetime
    """When the current secret was created."""
    old_ends_at: datetime | None
    """When the previous secret ends; None if there is none."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key and its secrets, for the authenticator."""

    record: KeyRecord
    secrets: tuple[StoredSecret, ...]


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """Which keys a list contains; None matches any value."""

    owner: str | None = None
    environment: str | None = None
    status: KeyStatus | None = None
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class KeyPage:
    """One page of a list, and the cursor of the next page; None on the last page."""

    keys: tuple[KeyRecord, ...]
    next_cursor: str | None
