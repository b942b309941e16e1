"""What operators send about keys, and what they get."""

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from platform_app.auth.keys.records import UNSET, KeyChanges, NewKey
from platform_app.auth.tokens import KeyEnvironment

_STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
_Text = Annotated[str, Field(min_length=1, max_length=200)]
_Scopes = Annotated[list[Annotated[str, Field(max_length=80)]], Field(min_length=1, max_length=50)]
_Models = Annotated[list[Annotated[str, Field(max_length=128)]], Field(max_length=200)]
_Limit = Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Limits = Annotated[dict[Annotated[str, Field(max_length=63)], _Limit], Field(max_length=32)]


class CreateKeyBody(BaseModel):
    """`POST /v1/platform/api-keys`."""

    model_config = _STRICT

    name: _Text = Field(description="What the key is for.")
    owner: _Text = Field(description="The team or person who is responsible for the key.")
    scopes: _Scopes
    allowed_models: _Models | None = Field(None, description="Without it every model is allowed; with [] none.")
    limits: _Limits | None = Field(
        None, description="Other limits than the config file's, by rule name; US dollars for cost_usd."
    )
    expires_at: AwareDatetime | None = None

    def new_key(self, environment: KeyEnvironment) -> NewKey:
        """As the lifecycle takes it."""
        return NewKey(
            self.name, self.owner, self.scopes, environment, self.allowed_models, self.expires_at, self.limits
        )


class UpdateKeyBody(BaseModel):
    """`PATCH /v1/platform/api-keys/{key_id}`: only the fields that are there change; null removes."""

    model_config = _STRICT

    name: _Text = Field("", validate_default=False)
    owner: _Text = Field("", validate_default=False)
    scopes: _Scopes = Field([], validate_default=False)
    allowed_models: _Models | None = None
    limits: _Limits | None = None
    expires_at: AwareDatetime | None = None

    def changes(self) -> KeyChanges:
        """As the lifecycle takes it."""
        given = self.model_fields_set
        return KeyChanges(**{name: getattr(self, name) if name in given else UNSET for name in type(self).model_fields})


class RotateKeyBody(BaseModel):
    """`POST /v1/platform/api-keys/{key_id}/rotate`."""

    model_config = _STRICT

    grace_period_seconds: Annotated[int, Field(ge=0, le=30 * 86_400, strict=True)] = Field(
        3600, description="How long the old secret stays valid; 0 ends it at once."
    )


class RevokeKeyBody(BaseModel):
    """`POST /v1/platform/api-keys/{key_id}/revoke`."""

    model_config = _STRICT

    reason: _Text = Field(description="Why; kept in the audit.")


class KeyView(BaseModel):
    """A key as operators see it: everything but the secret."""

    key_id: str
    name: str
    owner: str
    environment: str
    scopes: list[str]
    allowed_models: list[str] | None
    limits: dict[str, int | float] | None
    expires_at: datetime | None
    created_at: datetime
    created_by: str
    revoked_at: datetime | None
    revoked_by: str | None
    revoked_reason: str | None
    last_used_at: datetime | None
    status: str


class KeyWithSecret(BaseModel):
    """A key with its text. No other response contains the text."""

    key: str = Field(description="Shown only once.")
    api_key: KeyView


class KeyList(BaseModel):
    """A page of keys, newest first."""

    data: list[KeyView]
    next_cursor: str | None = Field(description="For the next page; null on the last one.")
