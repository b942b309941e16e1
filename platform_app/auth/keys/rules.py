"""What a key may look like, and what an actor may do to it: checks without any I/O."""

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from platform_app.auth.keys.records import KeyRecord
from platform_app.auth.permissions import ALL, GRANTS, covers, unknown_grants
from platform_app.config import LimitRule
from platform_app.config.limits import BY_KEY_SCOPES
from platform_app.errors import InsufficientScope, ValidationFailed
from platform_app.observability import metrics
from platform_app.observability.credential_forms import holds_credential

MAX_GRACE_SECONDS = 30 * 86_400

POWERLESS = frozenset(
    {"key_id", "name", "created_at", "created_by", "revoked_at", "revoked_by", "revoked_reason", "last_used_at"}
)
"""Attributes that give a key no power: they are not compared with the holder's own. Every other attribute is, and one
that has no comparison yet is refused."""


class KeyRules:
    """Judges keys by the catalog's models and the config file's limit rules."""

    def __init__(self, limit_rules: Sequence[LimitRule] = (), models: Collection[str] | None = None) -> None:
        self.replace(limit_rules, models)

    def replace(self, limit_rules: Sequence[LimitRule], models: Collection[str] | None) -> None:
        """Judge by these from now on: the config file has changed."""
        self._limits = {rule.name: rule for rule in limit_rules if rule.scope in BY_KEY_SCOPES}
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

    def check_grant(self, holder: KeyRecord | None, fields: Mapping[str, Any]) -> None:
        """Refuse to give what the holder lacks. A field that is there and None counts as what it stands for: every
        model, the config file's limits, no end.

        Args:
            holder: The key of the actor; None for the operator at the command line, who is not restricted.
            fields: The fields of the new key, or those that a change names.

        Raises:
            InsufficientScope: naming the first scope that the holder lacks.
            ValidationFailed: naming every other field that is beyond the holder.
        """
        if beyond := self._beyond(holder, fields):
            raise ValidationFailed("You cannot grant more than your own key holds.", details=beyond)

    def check_manage(self, holder: KeyRecord | None, target: KeyRecord) -> None:
        """Refuse to change, rotate or revoke a key that holds more than the holder: rotating it would hand it over.

        Raises:
            InsufficientScope: naming the first scope of the key that the holder lacks.
            ValidationFailed: naming every other attribute that is beyond the holder.
        """
        held = {name: getattr(target, name) for name in target.__dataclass_fields__}
        if beyond := self._beyond(holder, held):
            raise ValidationFailed("You cannot manage a key that holds more than your own.", details=beyond)

    def _beyond(self, holder: KeyRecord | None, fields: Mapping[str, Any]) -> list[str]:
        """What a key with these fields would hold beyond the holder; a scope is raised at once."""
        if holder is None or is_admin(holder):
            return []
        for scope in sorted(fields.get("scopes") or ()):
            if not covers(holder.scopes, scope):
                raise InsufficientScope(scope)
        beyond: list[str] = []
        for name, value in fields.items():
            match name:
                case "scopes":
                    pass  # compared above, since they are an error of their own
                case "owner":
                    beyond += _owner_beyond(holder, value)
                case "environment":
                    beyond += _environment_beyond(holder, value)
                case "allowed_models":
                    beyond += _models_beyond(holder, value)
                case "limits":
                    beyond += self._limits_beyond(holder, value or {})
                case "expires_at":
                    beyond += _expiry_beyond(holder, value)
                case _ if name not in POWERLESS:
                    beyond.append(f"{name}: only an administrator's key may give or manage this")
        return beyond

    def _limits_beyond(self, holder: KeyRecord, limits: Mapping[str, float]) -> list[str]:
        problems = []
        for name, rule in self._limits.items():
            own, limit = _limit_of(holder.limits or {}, rule), _limit_of(limits, rule)
            if limit > own:
                source = "" if name in limits else ", the config file's,"
                what = "no limit" if limit == math.inf else f"{limit:.15g}{source}"
                problems.append(f"limits.{name}: {what} is above your own limit of {own:.15g}")
        return problems

    def _model_problems(self, models: Sequence[str]) -> list[str]:
        if self._models is None:
            return []
        unknown = sorted(set(models) - set(self._models))
        return [f"allowed_models: there is no model {name[:128]!r} in the catalog" for name in unknown]

    def _limit_problems(self, limits: Mapping[str, float]) -> list[str]:
        known = _listed(self._limits)
        problems = [
            f"limits: {name[:63]!r} is not a rule that counts by key ({known or 'there is none'})"
            for name in limits
            if name not in self._limits
        ]
        return problems + [
            f"limits.{name}: {problem}"
            for name, limit in limits.items()
            if name in self._limits and (problem := self._limits[name].own_limit_problem(limit))
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


def is_active_admin(record: KeyRecord) -> bool:
    """Whether the key holds everything, and works."""
    return is_admin(record) and record.status() == "active"


def weakens_admin(before: KeyRecord, changes: Mapping[str, Any]) -> bool:
    """Whether these changes make an administrator's key end sooner, or be one no more."""
    if not is_active_admin(before):
        return False
    end = changes.get("expires_at", before.expires_at)
    ends_sooner = end is not None and (before.expires_at is None or end < before.expires_at)
    return ends_sooner or ALL not in changes.get("scopes", [ALL])


def _limit_of(limits: Mapping[str, float], rule: LimitRule) -> float:
    """What holds for a key with these limits of its own."""
    default = math.inf if rule.limit is None else float(rule.limit)
    return limits.get(rule.name, default)


def _owner_beyond(holder: KeyRecord, owner: str) -> list[str]:
    if owner == holder.owner:
        return []
    return [f"owner: your key manages keys of its own owner only, which is {holder.owner!r}"]


def _environment_beyond(holder: KeyRecord, environment: str) -> list[str]:
    if environment == holder.environment:
        return []
    return [f"environment: your key is a {holder.environment} key and manages no {environment} keys"]


def _models_beyond(holder: KeyRecord, models: Collection[str] | None) -> list[str]:
    if holder.allowed_models is None:
        return []
    own = set(holder.allowed_models)
    if models is None:
        return [f"allowed_models: without it every model is allowed, and you may use only {_some(own)}"]
    return [f"allowed_models: you may not use {name!r} yourself" for name in sorted(set(models) - own)]


def _expiry_beyond(holder: KeyRecord, expires_at: datetime | None) -> list[str]:
    if holder.expires_at is None or (expires_at is not None and expires_at <= holder.expires_at):
        return []
    what = "without it a key does not end" if expires_at is None else f"{expires_at.isoformat()} is too late"
    return [f"expires_at: {what}, and your own key ends at {holder.expires_at.isoformat()}"]


def _scope_problems(scopes: Sequence[str]) -> list[str]:
    if not scopes:
        return [f"scopes: at least one is needed, of {_listed(GRANTS)}"]
    return [f"scopes: {scope[:80]!r} does not exist; choose from {_listed(GRANTS)}" for scope in unknown_grants(scopes)]


def _expiry_problems(expires_at: datetime) -> list[str]:
    if expires_at.tzinfo is None:
        return ["expires_at: a time zone is needed, for example 2030-01-31T00:00:00Z"]
    try:
        expires_at = expires_at.astimezone(UTC)
    except OverflowError:
        return ["expires_at: is beyond the calendar; leave it out for a key that does not expire"]
    if expires_at <= datetime.now(UTC):
        return ["expires_at: lies in the past; to end a key now, revoke it"]
    return []


def _text_problems(field: str, value: str) -> list[str]:
    if not 1 <= len(value.strip()) <= 200 or len(value) > 200:
        return [f"{field}: 1 to 200 characters are needed"]
    if not value.isprintable():
        return [f"{field}: control characters are not allowed"]
    if holds_credential(value.encode(errors="replace")):
        metrics.MISPLACED_CREDENTIALS.labels(field).inc()
        return [f"{field}: holds an API key, and this text is stored and shown; leave the key out"]
    return []


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))


def _some(names: Collection[str]) -> str:
    return _listed(names) or "none"
