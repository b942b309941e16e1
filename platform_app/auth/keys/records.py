"""What is known of a key, what its creator decides, and who makes a change: plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from platform_app.auth.tokens import KeyEnvironment

KeyStatus = Literal["active", "expired", "revoked"]


class Unset:
    """The type of UNSET: a field that a change leaves as it is (None is a value of its own)."""


UNSET = Unset()


@dataclass(frozen=True, slots=True)
class ActorKey:
    """The key, and which of its secrets, that a change is made with.

    What the key holds is not here: it is read again in the change's own transaction, because the cache of callers may
    be seconds old.
    """

    key_id: str
    secret_created_at: datetime | None
    """Identifies the secret within its key. With None no change is accepted."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change, and in which request; goes into the audit event."""

    name: str
    key: ActorKey | None = None
    """None: the operator at the command line, who can write to the database anyway and is not restricted."""
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
    limits: Mapping[str, float] | None = None
    """Other limits than the config file's, by rule name; only for rules that count by key."""


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """What an update changes; UNSET leaves a field as it is."""

    name: str | Unset = UNSET
    owner: str | Unset = UNSET
    scopes: Sequence[str] | Unset = UNSET
    allowed_models: Sequence[str] | Unset | None = UNSET
    limits: Mapping[str, float] | Unset | None = UNSET
    expires_at: datetime | Unset | None = UNSET

    def fields(self) -> dict[str, Any]:
        """The fields that change, by column name."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in values.items() if not isinstance(value, Unset)}


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as its owner may see it: everything but the secret."""

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
        """Revoked wins over expired."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= (now or datetime.now(UTC)):
            return "expired"
        return "active"

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data, with the status of now."""
        fields = asdict(self) | {"status": self.status()}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """One of a key's secrets, as auth needs it."""

    digest: bytes = field(repr=False)
    pepper_version: int
    not_after: datetime | None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key and its secrets, as auth needs them."""

    record: KeyRecord
    secrets: tuple[StoredSecret, ...]


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """Which keys a list shows; None: any."""

    owner: str | None = None
    environment: str | None = None
    status: KeyStatus | None = None
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class KeyPage:
    """A piece of a list, and where the next one begins (None: there is none)."""

    keys: tuple[KeyRecord, ...]
    next_cursor: str | None
