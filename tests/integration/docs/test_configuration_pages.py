"""The configuration pages, compared with `Settings` and the models of the config file."""

import re
from pathlib import Path

import yaml

from platform_app import config
from platform_app.config import ConfigModel, Settings, load_config, load_settings
from tests.support.documents.pages import page_with_parts, table

CONFIGURATION = page_with_parts("configuration")
URLS = {"database_url": "postgresql://a:b@localhost/c", "redis_url": "redis://localhost"}


def _shown_default(name: str) -> str:
    """Return the default of a setting as the page writes it."""
    field = Settings.model_fields[name]
    if field.is_required():
        return "required"
    match field.default:
        case None:
            return "not set"
        case "":
            return "empty"
        case bool():
            return str(field.default).lower()
        case float():
            return f"{field.default:g}"
        case _:
            return str(field.default)


def test_settings_page_lists_settings_with_defaults() -> None:
    rows = table(CONFIGURATION, "| Variable | Default | Meaning | In production |")
    documented = {row[0].strip("`"): row[1].strip("`") for row in rows}

    assert len(documented) == len(rows)
    assert documented == {f"PLATFORM_{name.upper()}": _shown_default(name) for name in Settings.model_fields}
    assert all(row[2] for row in rows), "a setting without a meaning"


def test_documented_config_file_loads(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```", CONFIGURATION, re.M | re.S)
    path = tmp_path / "platform.yaml"
    path.write_text(example)

    loaded = load_config(load_settings(**URLS, config_file=path))

    assert loaded.models.keys() == yaml.safe_load(example)["models"].keys()
    assert len(loaded.rate_limits.rules) == 7


def test_configuration_pages_name_config_file_fields() -> None:
    models = [
        kind for kind in vars(config).values()
        if isinstance(kind, type) and issubclass(kind, ConfigModel) and kind is not ConfigModel
    ]  # fmt: skip
    fields = {name for kind in models for name in kind.model_fields}
    assert len(models) >= 6
    assert {name for name in fields if not re.search(rf"\b{name}\b", CONFIGURATION)} == set()
