"""The verified caller of a request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from platform_app.auth.permissions import ALL, covers


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified key without its secret and digest, so it may be logged."""

    key_id: str
    name: str
    owner: str
    environment: str
    scopes: frozenset[str]
    allowed_models: frozenset[str] | None = None
    """Public model names; None for every model of the catalog."""
    expires_at: datetime | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    """The key's own limits by rule name; they replace those of the config file."""
    secret_created_at: datetime | None = None
    """When the secret that the client sent was created. It distinguishes the two secrets of a rotated key."""

    @property
    def only_owner(self) -> str | None:
        """The owner whose keys and records this caller may read; None for all owners, with `platform:*`."""
        return None if ALL in self.scopes else self.owner

    def may(self, scope: str) -> bool:
        """Return whether the key has this scope, directly or through a wildcard."""
        return covers(self.scopes, scope)

    def may_use(self, model: str) -> bool:
        """Return whether the key may use the model with this public name."""
        return self.allowed_models is None or model in self.allowed_models
