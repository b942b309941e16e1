"""What a key may look like, and what an actor may do to it: checks without any I/O."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from platform_app.auth.key_records import Actor, KeyRecord
from platform_app.auth.permissions import ALL, GRANTS, unknown_grants
from platform_app.config import LimitRule
from platform_app.errors import InsufficientScope, ValidationFailed

MAX_GRACE_SECONDS = 30 * 86_400
_BY_KEY = ("key", "key_route", "key_model")


class KeyRules:
    """Judges keys by the catalog's models and the config file's limit rules."""

    def __init__(self, limit_rules: Sequence[LimitRule] = (), models: Collection[str] | None = None) -> None:
        self._limits = {rule.name: rule.limit for rule in limit_rules if rule.scope in _BY_KEY}
        self._models = models

    def check_fields(self, fields: Mapping[str, Any]) -> None:
        """Check the fields that are there.

        Raises:
            ValidationFailed: naming every field that is wrong, and why.
        """
        problems: list[str] = []
        for name in ("name", "owner"):
            if name in fields:
                problems += _text_problems(name, fields[name])
        if "scopes" in fields:
            problems += _scope_problems(fields["scopes"])
        if fields.get("allowed_models") is not None:
            problems += self._model_problems(fields["allowed_models"])
        if fields.get("limits") is not None:
            problems += self._limit_problems(fields["limits"])
        if fields.get("expires_at") is not None:
            problems += _expiry_problems(fields["expires_at"])
        if problems:
            raise ValidationFailed("The API key is not valid.", details=problems)

    def check_grant(self, actor: Actor, fields: Mapping[str, Any]) -> None:
        """Nobody grants beyond what they hold.

        Raises:
            InsufficientScope: naming the first scope that is beyond the actor.
            ValidationFailed: naming the limits that are.
        """
        if actor.is_admin:
            return
        for scope in sorted(fields.get("scopes") or ()):
            if not actor.may_grant(scope):
                raise InsufficientScope(scope)
        own = {**self._limits, **actor.limits}
        above = [
            f"limits.{name}: {limit} is above your own limit of {own[name]}"
            for name, limit in (fields.get("limits") or {}).items()
            if limit > own[name]
        ]
        if above:
            raise ValidationFailed("You cannot grant limits beyond your own.", details=above)

    def check_manage(self, actor: Actor, target: KeyRecord) -> None:
        """Nobody changes, rotates or revokes a key that holds more than they do: rotating it would hand it over.

        Raises:
            InsufficientScope: naming the first scope of the key that is beyond the actor.
        """
        for scope in sorted(target.scopes):
            if not actor.may_grant(scope):
                raise InsufficientScope(scope)

    def _model_problems(self, models: Sequence[str]) -> list[str]:
        if self._models is None:
            return []
        unknown = sorted(set(models) - set(self._models))
        return [f"allowed_models: there is no model {name[:128]!r} in the catalog" for name in unknown]

    def _limit_problems(self, limits: Mapping[str, int]) -> list[str]:
        known = _listed(self._limits)
        problems = [
            f"limits: {name[:63]!r} is not a rule that counts by key ({known or 'there is none'})"
            for name in limits
            if name not in self._limits
        ]
        return problems + [
            f"limits.{name}: a whole number from 1 to 1000000000 is needed"
            for name, limit in limits.items()
            if name in self._limits and not 1 <= limit <= 1_000_000_000
        ]


def check_grace(seconds: int) -> None:
    """Raises ValidationFailed where a grace period is not from 0 to 30 days."""
    if not 0 <= seconds <= MAX_GRACE_SECONDS:
        raise ValidationFailed(
            "The request is not valid.", details=[f"grace_period_seconds: 0 to {MAX_GRACE_SECONDS} is needed"]
        )


def check_reason(reason: str) -> None:
    """Raises ValidationFailed where a reason says nothing."""
    if problems := _text_problems("reason", reason):
        raise ValidationFailed("The request is not valid.", details=problems)


def is_admin(record: KeyRecord) -> bool:
    """Whether the key holds everything."""
    return ALL in record.scopes


def _scope_problems(scopes: Sequence[str]) -> list[str]:
    if not scopes:
        return [f"scopes: at least one is needed, of {_listed(GRANTS)}"]
    return [f"scopes: {scope[:80]!r} does not exist; choose from {_listed(GRANTS)}" for scope in unknown_grants(scopes)]


def _expiry_problems(expires_at: datetime) -> list[str]:
    if expires_at.tzinfo is None:
        return ["expires_at: a time zone is needed, for example 2030-01-31T00:00:00Z"]
    if expires_at <= datetime.now(UTC):
        return ["expires_at: lies in the past; to end a key now, revoke it"]
    return []


def _text_problems(field: str, value: str) -> list[str]:
    if not 1 <= len(value.strip()) <= 200 or len(value) > 200:
        return [f"{field}: 1 to 200 characters are needed"]
    if not value.isprintable():
        return [f"{field}: control characters are not allowed"]
    return []


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
