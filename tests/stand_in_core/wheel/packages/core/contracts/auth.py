from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class APIKeyInfo(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    key_id: str
    owner: str
    scopes: list[str]
    expires_at: str | None = None
    metadata: dict[str, Any]


class APIKeyValidationResult(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    result: Literal["allow", "deny"]
    key_info: APIKeyInfo | None = None
    reason: str | None = None


class RateLimitPolicy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    requests_per_minute: int
    burst: int


class RateLimitResult(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    allowed: bool
    remaining: int
    retry_after_seconds: float
