"""The scopes that exist, and whether a grant covers one. Deny by default; an unknown scope is refused."""

from collections.abc import Collection
from enum import StrEnum


class Scope(StrEnum):
    """Every permission that a route can ask for."""

    CHAT = "platform:chat"
    EMBEDDINGS = "platform:embeddings"
    MODELS_READ = "platform:models:read"
    API_KEYS_READ = "platform:api_keys:read"
    API_KEYS_MANAGE = "platform:api_keys:manage"
    AUDIT_READ = "platform:audit:read"
    USAGE_READ = "platform:usage:read"


ALL = "platform:*"
"""The grant that covers every scope: an administrator's."""

GRANTS: frozenset[str] = frozenset(
    {ALL, *Scope}
    # A prefix wildcard for each group that has members below it: platform:api_keys:*, …
    | {scope.rpartition(":")[0] + ":*" for scope in Scope if scope.count(":") > 1}
)
"""Everything that may be granted: each scope, and each prefix wildcard that covers at least one."""


def covers(grants: Collection[str], scope: str) -> bool:
    """Whether these grants allow this scope (or cover this narrower grant)."""
    if scope in grants or ALL in grants:
        return True
    prefix = scope
    while ":" in prefix:
        prefix = prefix.rpartition(":")[0]
        if f"{prefix}:*" in grants:
            return True
    return False


def unknown_grants(grants: Collection[str]) -> list[str]:
    """The ones that do not exist, sorted; an empty list where all are fine."""
    return sorted(set(grants) - GRANTS)
