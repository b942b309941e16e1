"""The difference between two configurations: names alone, never values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from platform_app.config import PlatformConfig

MAX_NAMES = 50
"""Names of one list; the number of further ones follows them."""

Names = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One applied change of the config file."""

    reason: str
    """file_changed or sighup."""
    sha256_before: str
    sha256_after: str
    changes: Mapping[str, Names]


def changed_names(before: PlatformConfig, after: PlatformConfig) -> dict[str, Names]:
    """Return the names that were added, removed and changed, by section; a section without a difference is left out."""
    sections: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
        "providers": (before.providers, after.providers),
        "models": (before.models, after.models),
        "rules": (_rules(before), _rules(after)),
        "policies": (_fields(before.policies), _fields(after.policies)),
        "settings": (_settings(before), _settings(after)),
    }
    found = {name: _compare(*pair) for name, pair in sections.items()}
    return {name: names for name, names in found.items() if names}


def _rules(config: PlatformConfig) -> dict[str, Any]:
    return {rule.name: rule for rule in config.rate_limits.rules}


def _settings(config: PlatformConfig) -> dict[str, Any]:
    rate_limits = {name: value for name, value in _fields(config.rate_limits).items() if name != "rules"}
    return {**rate_limits, "log_level": config.log_level, "owners": config.owners}


def _fields(model: Any) -> dict[str, Any]:
    return {name: getattr(model, name) for name in type(model).model_fields}


def _compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[str]]:
    names = {
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "changed": sorted(name for name in before.keys() & after.keys() if before[name] != after[name]),
    }
    return {kind: _bounded(found) for kind, found in names.items() if found}


def _bounded(names: list[str]) -> list[str]:
    more = len(names) - MAX_NAMES
    return [*names[:MAX_NAMES], f"… {more} more"] if more > 0 else names
