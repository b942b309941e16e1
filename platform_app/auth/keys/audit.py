"""Audit events of key changes, written in the change's transaction: neither exists without the other."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from platform_app.auth.keys.records import Actor, KeyRecord
from platform_app.db.models import AuditEvent


async def write_audit_event(
    connection: AsyncConnection,
    actor: Actor,
    action: str,
    target: str,
    *,
    before: KeyRecord | None = None,
    after: KeyRecord | None = None,
    reason: str | None = None,
) -> None:
    """Insert one event. A KeyRecord contains no secret, so `before` and `after` cannot leak one."""
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
