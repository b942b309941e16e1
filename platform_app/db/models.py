"""The tables. The schema itself changes only through `migrations/`; a test compares the two."""

from datetime import date, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    REAL,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, INET, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Names every constraint, so that migrations can drop what they made."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own way to declare it
        str: Text(),
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(),
        list[str]: ARRAY(Text()),
    }


class ApiKey(Base):
    """One key: who it belongs to and what it may do. Its secrets are separate rows."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint("key_id ~ '^[0-9A-Za-z]{12}$'", name="key_id"),
        Index(None, "owner"),
        Index(None, "created_at", "key_id"),
    )

    key_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner: Mapped[str]
    environment: Mapped[str]
    scopes: Mapped[list[str]]
    allowed_models: Mapped[list[str] | None]
    limits: Mapped[dict[str, Any] | None]
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None]
    revoked_reason: Mapped[str | None]
    last_used_at: Mapped[datetime | None]


class ApiKeySecret(Base):
    """A secret's HMAC; a key has two live ones during a rotation's grace period."""

    __tablename__ = "api_key_secrets"
    __table_args__ = (
        CheckConstraint("octet_length(digest) = 32", name="digest"),
        Index(None, "key_id"),
    )

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.key_id"))
    pepper_version: Mapped[int] = mapped_column(SmallInteger)
    not_after: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AuditEvent(Base):
    """One lifecycle change, written in the change's own transaction; never updated or deleted."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index(None, "target", "id"),
        Index(None, "occurred_at"),
        Index(
            "ix_audit_events_owner_changes",
            "target",
            "id",
            postgresql_where=text("before ->> 'owner' <> after ->> 'owner'"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    occurred_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
    actor: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    reason: Mapped[str | None]
    request_id: Mapped[str | None]
    trace_id: Mapped[str | None]
    client_address: Mapped[str | None]


class AccessDecision(Base):
    """What became of one request; written by the ledger, never updated or deleted, dropped by the day."""

    __tablename__ = "access_decisions"
    __table_args__ = (
        CheckConstraint("decision IN ('allow', 'deny')", name="decision"),
        Index(None, "key_id", "occurred_at"),
        Index(None, "trace_id"),
        Index(None, "request_id"),
        {"postgresql_partition_by": "RANGE (occurred_at)"},
    )

    occurred_at: Mapped[datetime] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    trace_id: Mapped[UUID] = mapped_column(Uuid)
    request_id: Mapped[str]
    key_id: Mapped[str | None]
    method: Mapped[str]
    route: Mapped[str]
    decision: Mapped[str]
    reason: Mapped[str | None]
    status: Mapped[int] = mapped_column(SmallInteger)
    client_address: Mapped[IPv4Address | IPv6Address | None] = mapped_column(INET)
    duration_ms: Mapped[float] = mapped_column(REAL)
    count: Mapped[int] = mapped_column(Integer, server_default=text("1"), nullable=True)
    """How many requests this row stands for: sums of requests add this up. Never null (see migration 0005)."""
    owner: Mapped[str | None]
    model: Mapped[str | None]
    hops: Mapped[str | None]
    attempts: Mapped[list[Any] | None] = mapped_column(JSON)
    """Both as ledger/events/hops_and_attempts.py writes them."""


class UsageRecord(Base):
    """What one request used of a provider; written by the ledger, never updated or deleted, dropped by the day."""

    __tablename__ = "usage_records"
    __table_args__ = (
        Index(None, "key_id", "occurred_at"),
        Index(None, "trace_id"),
        Index(None, "request_id"),
        {"postgresql_partition_by": "RANGE (occurred_at)"},
    )

    occurred_at: Mapped[datetime] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    trace_id: Mapped[UUID] = mapped_column(Uuid)
    cost_microusd: Mapped[int | None] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    duration_ms: Mapped[float] = mapped_column(REAL)
    first_token_ms: Mapped[float | None] = mapped_column(REAL)
    attempts: Mapped[int] = mapped_column(SmallInteger)
    stream: Mapped[bool]
    estimated: Mapped[bool]
    request_id: Mapped[str]
    key_id: Mapped[str]
    owner: Mapped[str]
    route: Mapped[str]
    provider: Mapped[str]
    model: Mapped[str]
    upstream_model: Mapped[str]
    outcome: Mapped[str]
    provider_usage: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """What the provider counted, as it came; prompt_tokens and the other columns are what is used of it."""
    upstream_request_id: Mapped[str | None]
    session: Mapped[str | None]
    requested_model: Mapped[str | None]


class UsageDaily(Base):
    """The sums of a day's usage records; only a trigger on usage_records adds to them."""

    __tablename__ = "usage_daily"
    __table_args__ = (Index(None, "key_id", "day"), {"postgresql_with": {"fillfactor": 80}})

    day: Mapped[date] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    """Outcomes other than `ok` and `client_closed`."""
    client_closed: Mapped[int] = mapped_column(BigInteger)
    attempts: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_microusd: Mapped[int] = mapped_column(BigInteger)
    requests_without_price: Mapped[int] = mapped_column(BigInteger)
    estimated_requests: Mapped[int] = mapped_column(BigInteger)
    requests_with_first_token: Mapped[int] = mapped_column(BigInteger)
    duration_ms: Mapped[float] = mapped_column(Double)
    first_token_ms: Mapped[float] = mapped_column(Double)
