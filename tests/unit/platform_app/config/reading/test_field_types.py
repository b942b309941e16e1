"""Values whose YAML type is not that of their field, and what messages show of values."""

from pathlib import Path

import pytest

from platform_app.config import PlatformConfig, Settings, load_config, load_settings
from platform_app.config.reading.expectations import PATTERN_WORDS
from platform_app.config.reading.values import did_you_mean, path_text, shown
from platform_app.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("bare_environment")

TEXT = """
providers:
  openai: {{base_url: http://x/v1, {provider}}}
models:
  gpt-4o-mini: {{routes: [{{provider: openai, model: m, {route}}}]}}
rate_limits: {{rules: [{{name: r, scope: key, window_seconds: 60, {rule}}}]}}
{top}
"""


def load(tmp_path: Path, provider: str = "", route: str = "", rule: str = "", top: str = "") -> PlatformConfig:
    path = tmp_path / "platform.yaml"
    path.write_text(TEXT.format(provider=provider, route=route, rule=rule, top=top))
    return load_config(load_settings(database_url="postgresql://db/p", redis_url="rediss://r", config_file=path))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"rule": "limit: yes"}, "rate_limits.rules[0].limit: expected a number above 0, up to 1000000000, got 'yes'"),
        ({"rule": "limit: true"}, "rate_limits.rules[0].limit: expected a number above 0, up to 1000000000, got true"),
        (
            {"rule": "limit: 1:30"},
            "limit: expected a number above 0, up to 1000000000, got '1:30'",
        ),
        ({"rule": "limit: 1_000"}, "limit: expected a number above 0, up to 1000000000, got '1_000'"),
        ({"rule": "limit: .inf"}, "limit: expected a number above 0, up to 1000000000, got .inf"),
        ({"rule": "limit: 1.5"}, "limit: requests are whole numbers, got 1.5"),
        ({"route": "weight: true"}, "routes[0].weight: expected a whole number from 1 to 1000, got true"),
        ({"route": "weight: 1.5"}, "routes[0].weight: expected a whole number from 1 to 1000, got 1.5"),
        ({"route": "weight: 0b11"}, "routes[0].weight: expected a whole number from 1 to 1000, got '0b11'"),
        ({"route": "timeout_seconds: .nan"}, "timeout_seconds: expected a number above 0, up to 3600, got .nan"),
        (
            {"provider": "only_known_fields: yes"},
            "only_known_fields: expected true or false, got 'yes'; write true or false (YAML 1.2)",
        ),
        ({"provider": "only_known_fields: 1"}, "only_known_fields: expected true or false, got 1"),
        ({"provider": "api_version: 1.10"}, "got 1.10; put it in quotes: '1.10'"),
        ({"top": "log_level: loud"}, "log_level: expected one of debug, info, warning, error, got 'loud'"),
        ({"top": "policies: []"}, "policies: expected a mapping, got an empty list"),
    ],
)
def test_value_of_another_type_is_refused(tmp_path: Path, change: dict[str, str], expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, **change)
    [problem] = caught.value.problems
    assert expected in problem


def test_values_of_the_right_type_are_accepted(tmp_path: Path) -> None:
    config = load(
        tmp_path, provider="only_known_fields: TRUE", route="weight: 0100", rule='limit: "60"', top="log_level: INFO"
    )
    assert config.providers["openai"].only_known_fields
    assert config.models["gpt-4o-mini"].routes[0].weight == 100
    assert config.rate_limits.rules[0].limit == 60
    assert config.log_level == "info"


def test_key_in_place_of_its_name_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, provider="api_key_secret: sk-proj-4f6dQ81c0aB2xY")
    [problem] = caught.value.problems
    assert "line 3: providers.openai.api_key_secret: looks like a key, not a name" in problem
    assert "4f6d" not in problem


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing"),
        (True, "true"),
        (0.5, "0.5"),
        ("", "an empty text"),
        ("two\nlines", "'two\\nlines'"),
        ("x" * 100, f"'{'x' * 80}…' (100 characters)"),
        ([], "an empty list"),
        ({"a": 1}, "a mapping"),
        ("https://user:pa55@host/path?q=1", "'https://host/…'"),
        ("postgresql://u:pa55@[::1/db", "a URL that is not shown, because it may contain a password"),
        ("user:pa55@host", "a URL that is not shown, because it may contain a password"),
        ("sk-proj-4f6dQ81c0aB2xY", "a text that looks like a key and is not shown"),
        ("model sk-proj-4f6dQ81c0aB2xY", "'model sk-[masked]'"),
    ],
)
def test_values_are_shown_without_secrets(value: object, text: str) -> None:
    assert shown(value) == text


def test_paths_are_shown_as_people_write_them() -> None:
    assert path_text(("models", "a.b", "routes", 0, "weight")) == "models.a.b.routes[0].weight"
    assert path_text(("models", "sk-proj-4f6dQ81c0aB2xY")) == "models.sk-[masked]"


def test_suggestions_ignore_case_and_dashes() -> None:
    known = ["rate_limits", "providers", "policies"]
    assert did_you_mean("Rate-Limits", known) == "rate_limits"
    assert did_you_mean("polices", known) == "policies"
    assert did_you_mean("zebra", known) is None


@pytest.mark.parametrize("model", [PlatformConfig, Settings])
def test_every_pattern_has_a_description(model: type[PlatformConfig | Settings]) -> None:
    def patterns(node: object) -> set[str]:
        if isinstance(node, dict):
            own = {node["pattern"]} if isinstance(node.get("pattern"), str) else set()
            return own.union(*(patterns(item) for item in node.values()))
        return set().union(*(patterns(item) for item in node)) if isinstance(node, list) else set()

    described = {pattern for pattern in patterns(model.model_json_schema()) if not pattern.startswith("^(?!")}
    assert described <= PATTERN_WORDS.keys()
