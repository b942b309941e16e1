"""Problems of settings and of the config file together, and paths in the file."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from platform_app.config import load_config, load_settings, load_settings_beside_file
from platform_app.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("bare_environment")
ROUTE = {"provider": "openai", "model": "gpt-4o-mini"}


def written(directory: Path, **provider: Any) -> Path:
    path = directory / "platform.yaml"
    providers = {"openai": {"base_url": "https://x/v1", "api_key_secret": "KEY", **provider}}
    path.write_text(yaml.safe_dump({"providers": providers, "models": {"gpt-4o-mini": {"routes": [ROUTE]}}}))
    return path


def problems_of(**settings: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings_beside_file(redis_url="rediss://redis", **settings)
    return caught.value.problems


@pytest.mark.parametrize("as_variable", [True, False])
def test_invalid_setting_hides_no_problem_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_variable: bool
) -> None:
    path = written(tmp_path, wire_format="nonsense")
    if as_variable:
        monkeypatch.setenv("PLATFORM_CONFIG_FILE", str(path))
    found = problems_of(workers=0, **({} if as_variable else {"config_file": path}))
    names = {problem.partition(":")[0] for problem in found}
    assert names == {"PLATFORM_DATABASE_URL", "PLATFORM_WORKERS", f"PLATFORM_CONFIG_FILE ({path})"}


def test_valid_file_adds_no_problem(tmp_path: Path) -> None:
    assert len(problems_of(config_file=written(tmp_path))) == 1


def test_missing_file_is_a_problem_too(tmp_path: Path) -> None:
    assert len(problems_of(config_file=tmp_path / "missing.yaml")) == 2


def test_relative_path_begins_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may have been started in any directory."""
    path = written(tmp_path, client_cert_file="certificates/client.pem")
    monkeypatch.chdir("/")
    with pytest.raises(ConfigurationError) as caught:
        load_config(load_settings(database_url="postgresql://db/p", redis_url="rediss://redis", config_file=path))
    assert f"{tmp_path}/certificates/client.pem" in str(caught.value)
