"""Checks without I/O: whether a key's fields are valid, and whether an actor may grant or manage them."""

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from platform_app.auth.keys.records import KeyRecord
from platform_app.auth.permissions import ALL, GRANTS, covers, unknown_grants
from platform_app.config import LimitRule, did_you_mean
from platform_app.config.limits.rules import BY_KEY_SCOPES
from platform_app.credential_forms import holds_credential
from platform_app.errors import InsufficientScope, ValidationFailed
from platform_app.observability import metrics

MAX_TEXT = 200
MAX_GRACE_SECONDS = 30 * 86_400

POWERLESS = frozenset(
    {"key_id", "name", "created_at", "created_by", "revoked_at", "revoked_by", "revoked_reason", "last_used_at"}
)
"""Attributes that grant nothing, so they are not compared with the actor's key. Every other attribute is compared. An
attribute without a comparison is refused."""


class KeyRules:
    """Checks keys against the catalog's models and the config file's limit rules."""

    def __init__(
        self,
        limit_rules: Sequence[LimitRule] = (),
        models: Collection[str] | None = None,
        owners: Collection[str] | None = None,
    ) -> None:
        self.replace(limit_rules, models, owners)

    def replace(
        self, limit_rules: Sequence[LimitRule], models: Collection[str] | None, owners: Collection[str] | None = None
    ) -> None:
        """Use the rules, models and owners of a reloaded config file. Without owners, every owner is accepted."""
        self._owners = owners
        self._limits = {rule.name: rule for rule in limit_rules if rule.scope in BY_KEY_SCOPES}
        self._models = models

    def check_fields(self, fields: Mapping[str, Any]) -> None:
        """Check the given fields.

        Raises:
            ValidationFailed: names every invalid field and the reason.
        """
        problems: list[str] = []
        for name in ("name", "owner"):
            if name in fields:
                problems += _text_problems(name, fields[name])
        if "owner" in fields and self._owners is not None and fields["owner"] not in self._owners and not problems:
            problems.append(_unknown_owner(fields["owner"], self._owners))
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
        """Refuse to grant what the holder lacks. A given field that is None means its widest value: every model, the
        config file's limits, no expiry.

        Args:
            holder: The actor's key; None for the operator on the command line, who is not restricted.
            fields: The fields of the new key, or those that a change names.

        Raises:
            InsufficientScope: names the first scope that the holder lacks.
            ValidationFailed: names every other field that exceeds the holder's.
        """
        if beyond := self._beyond(holder, fields):
            raise ValidationFailed("You cannot grant more than your own key has.", details=beyond)

    def check_manage(self, holder: KeyRecord | None, target: KeyRecord) -> None:
        """Refuse to change, rotate or revoke a key that has more rights than the holder: the actor could rotate it and
        use it.

        Raises:
            InsufficientScope: names the first scope of the key that the holder lacks.
            ValidationFailed: names every other attribute that exceeds the holder's.
        """
        held = {name: getattr(target, name) for name in target.__dataclass_fields__}
        if beyond := self._beyond(holder, held):
            raise ValidationFailed("You cannot manage a key that has more rights than your own.", details=beyond)

    def _beyond(self, holder: KeyRecord | None, fields: Mapping[str, Any]) -> list[str]:
        """Return a problem for each field that exceeds the holder's; raise InsufficientScope for a scope."""
        if holder is None or is_admin(holder):
            return []
        for scope in sorted(fields.get("scopes") or ()):
            if not covers(holder.scopes, scope):
                raise InsufficientScope(scope)
        beyond: list[str] = []
        for name, value in fields.items():
            match name:
                case "scopes":
                    pass  # compared above: scopes have a separate error
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
        known = self._models
        if known is None:
            return []
        unknown = sorted(name for name in set(models) if name not in known)
        return [f"allowed_models: there is no model {name[:128]!r} in the catalog" for name in unknown]

    def _limit_problems(self, limits: Mapping[str, float]) -> list[str]:
        known = _listed(self._limits)
        problems = [
            f"limits: {name[:63]!r} is not a rule that counts by key; rules that do: {known or 'none'}"
            for name in limits
            if name not in self._limits
        ]
        return problems + [
            f"limits.{name}: {problem}"
            for name, limit in limits.items()
            if name in self._limits and (problem := self._limits[name].own_limit_problem(limit))
        ]


def check_grace(seconds: int) -> None:
    """Raise ValidationFailed unless a grace period is from 0 to 30 days."""
    if not 0 <= seconds <= MAX_GRACE_SECONDS:
        raise ValidationFailed(
            "The request is not valid.", details=[f"grace_period_seconds: must be from 0 to {MAX_GRACE_SECONDS}"]
        )


def check_reason(reason: str) -> None:
    """Raise ValidationFailed if a reason is empty or invalid."""
    if problems := _text_problems("reason", reason):
        raise ValidationFailed("The request is not valid.", details=problems)


def check_secret_end(secret_ends_at: datetime | None, granted_until: datetime | None) -> None:
    """Refuse access that outlives the secret with which it is granted. A rotation replaced that secret, often because
    another person may have it: it must not become a key, or a newer secret, that stays valid. This holds for
    administrators too.

    Args:
        secret_ends_at: When the actor's secret ends; None if no rotation replaced it.
        granted_until: When the new access ends; None if it does not.
    """
    if secret_ends_at is None or (granted_until is not None and granted_until <= secret_ends_at):
        return
    raise ValidationFailed(
        "You cannot grant more than your own key has.",
        details=[
            f"expires_at: a rotation replaced the secret of this request, which ends at {secret_ends_at.isoformat()}; "
            "what it creates, changes or rotates must expire by then. Use the key's new secret"
        ],
    )


def gives_power(fields: Collection[str]) -> bool:
    """Return whether a change of these fields can give a key more rights."""
    return any(name not in POWERLESS for name in fields)


def is_admin(record: KeyRecord) -> bool:
    """Return whether the key has all rights."""
    return ALL in record.scopes


def is_active_admin(record: KeyRecord) -> bool:
    """Return whether the key has all rights and is active."""
    return is_admin(record) and record.status() == "active"


def weakens_admin(before: KeyRecord, changes: Mapping[str, Any]) -> bool:
    """Return whether these changes make an administrator's key expire sooner or take away its rights."""
    if not is_active_admin(before):
        return False
    end = changes.get("expires_at", before.expires_at)
    ends_sooner = end is not None and (before.expires_at is None or end < before.expires_at)
    return ends_sooner or ALL not in changes.get("scopes", [ALL])


def _limit_of(limits: Mapping[str, float], rule: LimitRule) -> float:
    """Return the limit of a rule for a key with these limits."""
    default = math.inf if rule.limit is None else float(rule.limit)
    return limits.get(rule.name, default)


def _owner_beyond(holder: KeyRecord, owner: str) -> list[str]:
    if owner == holder.owner:
        return []
    return [f"owner: your key manages only keys of its own owner, {holder.owner!r}"]


def _environment_beyond(holder: KeyRecord, environment: str) -> list[str]:
    if environment == holder.environment:
        return []
    return [f"environment: your key is a {holder.environment} key and manages no {environment} keys"]


def _models_beyond(holder: KeyRecord, models: Collection[str] | None) -> list[str]:
    if holder.allowed_models is None:
        return []
    own = set(holder.allowed_models)
    if models is None:
        return [f"allowed_models: without it every model is allowed; you may use only {_some(own)}"]
    return [f"allowed_models: you may not use {name!r} yourself" for name in sorted(set(models) - own)]


def _expiry_beyond(holder: KeyRecord, expires_at: datetime | None) -> list[str]:
    if holder.expires_at is None or (expires_at is not None and expires_at <= holder.expires_at):
        return []
    what = "without it a key does not expire" if expires_at is None else f"{expires_at.isoformat()} is too late"
    return [f"expires_at: {what}; your own key expires at {holder.expires_at.isoformat()}"]


def _scope_problems(scopes: Sequence[str]) -> list[str]:
    if not scopes:
        return [f"scopes: at least one is required, of {_listed(GRANTS)}"]
    return [f"scopes: {scope[:80]!r} does not exist; choose from {_listed(GRANTS)}" for scope in unknown_grants(scopes)]


def _expiry_problems(expires_at: datetime) -> list[str]:
    if expires_at.tzinfo is None:
        return ["expires_at: must have a time zone, for example 2030-01-31T00:00:00Z"]
    try:
        expires_at = expires_at.astimezone(UTC)
    except OverflowError:
        return ["expires_at: is later than the calendar allows; leave it out for a key that does not expire"]
    if expires_at <= datetime.now(UTC):
        return ["expires_at: is in the past; to end a key now, revoke it"]
    return []


def _unknown_owner(owner: str, owners: Collection[str]) -> str:
    similar = did_you_mean(owner, owners)
    advice = f"did you mean '{similar}'?" if similar else "add it there, or use one of them"
    return f"owner: '{owner}' is not among the owners of the config file; {advice}"


def _text_problems(field: str, value: str) -> list[str]:
    if not value.strip() or len(value) > MAX_TEXT:
        return [f"{field}: must have 1 to {MAX_TEXT} characters"]
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
