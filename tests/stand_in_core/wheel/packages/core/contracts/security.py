from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

AuditAction = Literal[
    "create",
    "read",
    "update",
    "delete",
    "login",
    "logout",
    "permission_change",
    "config_change",
    "secret_access",
]


class SecretReference(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    version: int
    created_at: float
    expires_at: float | None = None
    metadata: dict[str, str]


class AuditLogEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    action: AuditAction
    actor: str
    resource: str
    resource_id: str
    details: dict[str, Any]
    timestamp: float
    ip_address: str
    trace_id: str
