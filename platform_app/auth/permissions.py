"""Scopes, and whether grants cover them. A scope without a grant is denied; an unknown scope is refused."""

from collections.abc import Collection
from enum import StrEnum


class Scope(StrEnum):
    """The permissions that routes require."""

    CHAT = "platform:chat"
    EMBEDDINGS = "platform:embeddings"
    MODELS_READ = "platform:models:read"
    API_KEYS_READ = "platform:api_keys:read"
    API_KEYS_MANAGE = "platform:api_keys:manage"
    AUDIT_READ = "platform:audit:read"
    USAGE_READ = "platform:usage:read"


ALL = "platform:*"
"""The administrator's grant, which covers every scope."""

GRANTS: frozenset[str] = frozenset(
    {ALL, *Scope}
    # A wildcard for each group of scopes: platform:api_keys:*, …
    | {scope.rpartition(":")[0] + ":*" for scope in Scope if scope.count(":") > 1}
)
"""All valid grants: each scope, and each wildcard that covers at least one scope."""


def covers(grants: Collection[str], scope: str) -> bool:
    """Return whether these grants cover this scope, or this narrower grant."""
    if scope in grants or ALL in grants:
        return True
    prefix = scope
    while ":" in prefix:
        prefix = prefix.rpartition(":")[0]
        if f"{prefix}:*" in grants:
            return True
    return False


def unknown_grants(grants: Collection[str]) -> list[str]:
    """Return the grants that do not exist, sorted."""
    return sorted(set(grants) - GRANTS)
