"""The difference between two configurations, by names alone."""

from typing import Any

from platform_app.config import PlatformConfig
from platform_app.resources.config_changes import MAX_NAMES, changed_names


def config(**sections: Any) -> PlatformConfig:
    routes = [{"provider": "sim", "model": "m"}]
    return PlatformConfig.model_validate(
        {"providers": {"sim": {"base_url": "http://x/v1"}}, "models": {"m": {"routes": routes}}, **sections}
    )


def test_equal_configurations_have_no_changes() -> None:
    assert changed_names(config(), config()) == {}


def test_changes_name_each_section_and_no_value() -> None:
    secret = "canary-header-value"
    rule = {"name": "rpm", "scope": "key", "limit": 5, "window_seconds": 60}
    before = config(rate_limits={"rules": [rule, {**rule, "name": "old", "limit": 50, "window_seconds": 3600}]})
    after = config(
        providers={"sim": {"base_url": "http://x/v1", "headers": {"X-Team": secret}}, "new": {"base_url": "http://y"}},
        rate_limits={"rules": [{**rule, "limit": 6}], "default_output_tokens": 7},
        policies={"queue_seconds": 9},
    )
    found = changed_names(before, after)
    assert found == {
        "providers": {"added": ["new"], "changed": ["sim"]},
        "rules": {"removed": ["old"], "changed": ["rpm"]},
        "policies": {"changed": ["queue_seconds"]},
        "settings": {"changed": ["default_output_tokens"]},
    }
    assert secret not in str(found)


def test_changes_name_a_bounded_number() -> None:
    models = {f"m{number:03}": {"routes": [{"provider": "sim", "model": "m"}]} for number in range(200)}
    added = changed_names(config(), config(models=models))["models"]["added"]
    assert added[: MAX_NAMES + 1] == [*sorted(models)[:MAX_NAMES], "… 150 more"]
