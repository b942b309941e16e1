"""Who is calling: what the rest of the gateway may know of a verified key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from platform_app.auth.permissions import ALL, covers


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified key. Holds no secret and no digest, so it may be logged."""

    key_id: str
    name: str
    owner: str
    environment: str
    scopes: frozenset[str]
    allowed_models: frozenset[str] | None = None
    """None: every model of the catalog."""
    expires_at: datetime | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    """Other limits than the config file's, by rule name."""
    secret_created_at: datetime | None = None
    """When the secret that was sent was created: tells it from the key's other secret."""

    @property
    def only_owner(self) -> str | None:
        """The owner whose keys and records this caller may read; None with `platform:*`: every owner's."""
        return None if ALL in self.scopes else self.owner

    def may(self, scope: str) -> bool:
        """Whether the key was granted this scope, by itself or by a wildcard."""
        return covers(self.scopes, scope)

    def may_use(self, model: str) -> bool:
        """Whether the key may use this public model name."""
        return self.allowed_models is None or model in self.allowed_models
