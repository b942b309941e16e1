"""Every setting, key and option whose value is one of some words takes the word in any case."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
import yaml

from apps.platform_cli.keys.inputs import status
from apps.platform_cli.main import app
from apps.release_lane.settings import LaneSettings, read_settings
from platform_app.config import PlatformConfig, Settings, load_config, load_settings
from platform_app.config.connections.database_url import parse_database_url
from platform_app.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("bare_environment")

PROVIDER = {"base_url": "http://x/v1", "api_key_secret": "KEY"}
ROUTES = [{"provider": "openai", "model": "m"}]
RULE = {"name": "r", "scope": "key", "unit": "requests", "limit": 5, "window_seconds": 60}
COST = {"name": "r", "scope": "key", "unit": "cost_usd", "limit": 5, "window": "day", "time_zone": "UTC"}


def words(annotation: Any) -> list[str]:
    """Return the texts of each Literal in a type."""
    if get_origin(annotation) is Literal:
        return [word for word in get_args(annotation) if isinstance(word, str)]
    return [word for each in get_args(annotation) for word in words(each)]


def settings(**fields: Any) -> Settings:
    return load_settings(**{"database_url": "postgresql://db/p", "redis_url": "rediss://redis", **fields})


def outcome(field: str, word: str) -> object:
    """Return the value of a setting, or what is wrong: some words need other settings."""
    try:
        return getattr(settings(**{field: word}), field)
    except ConfigurationError as error:
        return error.problems


@pytest.mark.parametrize("field", [name for name, each in Settings.model_fields.items() if words(each.annotation)])
def test_setting_takes_its_words_in_any_case(field: str) -> None:
    for word in words(Settings.model_fields[field].annotation):
        assert outcome(field, word.upper()) == outcome(field, word.title()) == outcome(field, word)


def config(**sections: Any) -> dict[str, Any]:
    model = {"routes": ROUTES, **sections.pop("model", {})}
    provider = {**PROVIDER, **sections.pop("provider", {})}
    return {"providers": {"openai": provider}, "models": {"gpt-4o-mini": model}, **sections}


def with_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    return config(rate_limits={"rules": [rule]})


def with_efforts(*efforts: str) -> dict[str, Any]:
    routes = [{**ROUTES[0], "capabilities": {"efforts": list(efforts)}}]
    return config(model={"routes": routes}, provider={"wire_format": "anthropic"})


FILES: dict[str, tuple[dict[str, Any], str]] = {
    "scope": (with_rule({**RULE, "scope": "Owner"}), "owner"),
    "unit": (with_rule({**RULE, "unit": "Tokens"}), "tokens"),
    "window": (with_rule({**COST, "window": "Month"}), "month"),
    "mode": (with_rule({**RULE, "mode": "SHADOW"}), "shadow"),
    "on_outage": (with_rule({**RULE, "on_outage": "Closed"}), "closed"),
    "on_no_price": (with_rule({**COST, "on_no_price": "Warn"}), "warn"),
    "strategy": (config(model={"strategy": "Latency"}), "latency"),
    "kind": (config(model={"kind": "Chat"}), "chat"),
    "features": (config(model={"features": ["Tools", "JSON_schema"]}), "json_schema"),
    "efforts": (with_efforts("Low", "HIGH"), "high"),
    "wire_format": (config(provider={"wire_format": "OpenAI-Responses"}), "openai-responses"),
    "log_level": (config(log_level="WARNING"), "warning"),
}
"""For each key of the config file with a choice: a file that has it in another case, and the word that is read."""


def enumerated(schema: Any, name: str = "") -> Iterator[str]:
    """Yield the names of a schema's properties that have a choice of words."""
    if isinstance(schema, list):
        for each in schema:
            yield from enumerated(each, name)
    elif isinstance(schema, dict):
        if "enum" in schema:
            yield name
        for key, value in schema.items():
            if key in ("properties", "$defs"):
                for inner, node in value.items():
                    yield from enumerated(node, inner)
            else:
                yield from enumerated(value, name)


def test_table_has_each_choice_of_the_config_file() -> None:
    assert sorted(enumerated(PlatformConfig.model_json_schema())) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_config_file_takes_its_words_in_any_case(name: str, tmp_path: Path) -> None:
    content, word = FILES[name]
    path = tmp_path / "platform.yaml"
    path.write_text(yaml.safe_dump(content))
    found = load_config(settings(config_file=path)).model_dump_json(exclude_defaults=True)
    assert f'"{word}"' in found


def options(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for option in command.params:
        yield " ".join([*path, option.name]), option
    for name, inner in getattr(command, "commands", {}).items():
        yield from options(inner, (*path, name))


CHOICES = {
    name: option.type_descriptor
    for name, option in options(typer.main.get_command(app))
    if words(option.type_descriptor.annotation)
}


@pytest.mark.parametrize("name", CHOICES)
def test_option_takes_its_words_in_any_case(name: str) -> None:
    assert CHOICES[name].parameter_info.case_sensitive is False


def test_options_with_choices_are_found() -> None:
    assert {"audit kind", "audit decision", "usage format", "usage reconcile form"} <= set(CHOICES)


def test_status_of_keys_is_taken_in_any_case() -> None:
    assert [status(text) for text in ("Active", "EXPIRED", " revoked")] == ["active", "expired", "revoked"]


def test_lane_takes_its_words_in_any_case(tmp_path: Path) -> None:
    file = tmp_path / "lane.toml"
    file.write_text("kind = 'Host'\nrunner = 'Systemd'\n[front]\nkind = 'NGINX'\n")
    found = read_settings(file)
    assert (found.kind, found.runner, found.front.kind) == ("host", "systemd", "nginx")
    assert found == LaneSettings(front=found.front)


def test_database_url_takes_its_words_in_any_case() -> None:
    query = "sslmode=Require&target_session_attrs=Read-Write&gssencmode=Disable&client_encoding=UTF8"
    target = parse_database_url(f"postgresql://db/p?{query}")
    assert (target.tls.mode, target.session_attributes) == ("require", "read-write")
