"""Settings and config file: every problem at once, by name, with what to do, and never a secret."""

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped] # it ships no types
import pytest
import yaml
from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from platform_app.config import (
    DEFAULT_RULES,
    PlatformConfig,
    RetryConfig,
    Settings,
    load_config,
    load_settings,
    unknown_variables,
)
from platform_app.errors import ConfigurationError
from tests.support.paths import ROOT

DATABASE_URL = "postgresql://fb:pa55word@db:5432/platform"
REDIS_URL = "rediss://:r3dispass@redis:6379/0"

pytestmark = pytest.mark.usefixtures("bare_environment")


def settings(**fields: Any) -> Settings:
    return load_settings(**{"database_url": DATABASE_URL, "redis_url": REDIS_URL, **fields})


def problems_of(**fields: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        settings(**fields)
    return caught.value.problems


class TestSettings:
    def test_settings_require_only_two_urls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLATFORM_DATABASE_URL", DATABASE_URL)
        monkeypatch.setenv("PLATFORM_REDIS_URL", REDIS_URL)
        found = load_settings()
        assert (found.port, found.metrics_port, found.env, found.host) == (8100, 9100, "dev", "127.0.0.1")

    def test_settings_flags_override_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLATFORM_PORT", "8200")
        assert settings().port == 8200
        assert settings(port=8300).port == 8300

    def test_settings_empty_variable_means_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLATFORM_PORT", "")
        assert settings().port == 8100

    def test_settings_report_all_problems_with_their_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {
            "DATABASE_URL": "mysql://fb:pa55word@db/platform",
            "PORT": "eighty",
            "METRICS_PORT": "70000",
            "ENV": "prod",
            "OPENAI_BASE_URL": "api.openai.com",
            "LOG_FORMAT": "xml",
            "API_KEY_PEPPER_SECRET_NAME": "no spaces",
        }.items():
            monkeypatch.setenv(f"PLATFORM_{name}", value)
        with pytest.raises(ConfigurationError) as caught:
            load_settings()
        problems = sorted(caught.value.problems)
        assert [problem.split(":")[0] for problem in problems] == [
            "PLATFORM_API_KEY_PEPPER_SECRET_NAME",
            "PLATFORM_DATABASE_URL",
            "PLATFORM_ENV",
            "PLATFORM_LOG_FORMAT",
            "PLATFORM_METRICS_PORT",
            "PLATFORM_OPENAI_BASE_URL",
            "PLATFORM_PORT",
            "PLATFORM_REDIS_URL",
        ]
        assert "PLATFORM_REDIS_URL: required but not set; set it (see .env.example)" in problems
        assert any(problem.startswith("PLATFORM_DATABASE_URL: expected postgresql://user:") for problem in problems)
        assert "PLATFORM_ENV: Input should be 'dev', 'staging' or 'production'" in problems
        assert "PLATFORM_OPENAI_BASE_URL: expected an http:// or https:// URL with a host" in problems
        assert all(problem in str(caught.value) for problem in problems)

    @pytest.mark.parametrize("prefix", ["postgresql://", "postgres://", "postgresql+asyncpg://"])
    def test_settings_accept_common_database_url_schemes(self, prefix: str) -> None:
        url = settings(database_url=f"{prefix}fb:x@db/p").database_url.get_secret_value()
        assert url == "postgresql+asyncpg://fb:x@db/p"

    @pytest.mark.parametrize("url", ["redis://localhost:6379/0", "rediss://r", "unix:///run/valkey.sock"])
    def test_settings_accept_common_redis_url_schemes(self, url: str) -> None:
        assert settings(redis_url=url).redis_url.get_secret_value() == url

    @pytest.mark.parametrize(
        ("field", "url"),
        [
            ("database_url", "sqlite:///pa55word"),
            ("database_url", "postgresql+psycopg://fb:pa55word@db/p"),
            ("database_url", "pa55word"),
            # A password whose special characters were not percent-encoded.
            ("database_url", "postgresql://fb:x@db:pa55word/p"),
            ("redis_url", "http://:pa55word@r"),
            ("redis_url", "redis://r:pa55word/0"),
            ("redis_url", "redis://:x/pa55word@r:6379/0"),
        ],
    )
    def test_settings_invalid_url_is_named_but_not_shown(self, field: str, url: str) -> None:
        [problem] = problems_of(**{field: url})
        assert problem.startswith(f"PLATFORM_{field.upper()}: expected ")
        assert "pa55word" not in problem

    @pytest.mark.parametrize(
        "url",
        ["ftp://x", "https://", "https://u:pa55word@api.openai.com/v1", "https://x/v1?key=pa55word", "https://x/#a", "http://["],
    )  # fmt: skip
    def test_settings_refuse_credentials_in_provider_url(self, url: str) -> None:
        [problem] = problems_of(openai_base_url=url)
        assert problem.startswith("PLATFORM_OPENAI_BASE_URL: ")
        assert "pa55word" not in problem

    def test_settings_strip_trailing_slash_of_provider_url(self) -> None:
        assert settings(openai_base_url="http://x/v1/").openai_base_url == "http://x/v1"

    def test_settings_refuse_equal_ports(self) -> None:
        expected = "PLATFORM_PORT and PLATFORM_METRICS_PORT are equal; metrics need a separate port"
        assert problems_of(port=9100) == [expected]
        assert problems_of(port=8200, metrics_port=8200) == [expected]

    @pytest.mark.parametrize("level", ["INFO", "info", "Info"])
    def test_settings_accept_log_level_in_any_case(self, level: str) -> None:
        assert settings(log_level=level).log_level == "info"

    def test_settings_repr_contains_no_secret(self) -> None:
        found = settings()
        shown = f"{found!r} {found} {found.model_dump()} {found.model_dump_json()}"
        assert "pa55word" not in shown
        assert "r3dispass" not in shown

    def test_settings_are_immutable(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            setattr(settings(), "port", 1)  # noqa: B010 - mypy knows it too

    def test_settings_keys_are_live_only_in_production(self) -> None:
        found = {name: settings(env=name).key_environment for name in ("dev", "staging", "production")}
        assert found == {"dev": "test", "staging": "test", "production": "live"}

    def test_unknown_variables_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("PLATFORM_PROT", "PLATFORM_SERVICE_HOST", "PLATFORM_PORT", "PLATFORM_API_KEY_PEPPER", "OTHER"):
            monkeypatch.setenv(name, "1")
        assert unknown_variables() == ["PLATFORM_PROT", "PLATFORM_SERVICE_HOST"]

    def test_renamed_settings_are_read_by_their_former_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        former, name = "PLATFORM_PROVIDER_FIRST_BYTE_TIMEOUT_SECONDS", "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS"
        monkeypatch.setenv(former, "7")
        assert settings().provider_idle_timeout_seconds == 7
        assert unknown_variables() == []
        monkeypatch.setenv(former, "soon")
        [problem] = problems_of()
        assert problem.startswith(f"{name}: ")
        monkeypatch.setenv(former, "7")
        monkeypatch.setenv(name, "8")
        [problem] = problems_of()
        assert problem.startswith(f"{former}: is the former name of {name}")


PROVIDER = {"base_url": "http://x/v1", "api_key_secret": "KEY"}
MODEL = {"routes": [{"provider": "openai", "model": "gpt-4o-mini"}]}
GOOD = {"providers": {"openai": PROVIDER}, "models": {"gpt-4o-mini": MODEL}}


class TestConfigFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "platform.yaml"

    def load(self, path: Path, content: object, **fields: Any) -> PlatformConfig:
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return load_config(settings(config_file=path, **fields))

    def problems(self, path: Path, content: object) -> list[str]:
        """What is wrong, without the file's name in front."""
        with pytest.raises(ConfigurationError) as caught:
            self.load(path, content)
        front = f"PLATFORM_CONFIG_FILE ({path}): "
        assert all(problem.startswith(front) for problem in caught.value.problems)
        return [problem.removeprefix(front) for problem in caught.value.problems]

    def test_missing_config_setting_means_default_model(self) -> None:
        config = load_config(settings(default_model="gpt-4o", openai_base_url="http://x/v1", llm_provider="mine"))
        assert set(config.models) == {"gpt-4o"}
        [route] = config.models["gpt-4o"].routes
        assert (route.provider, route.model) == ("mine", "gpt-4o")
        assert config.providers["mine"].base_url == "http://x/v1"
        assert config.providers["mine"].api_key_secret == "OPENAI_API_KEY"
        assert config.rate_limits.rules == DEFAULT_RULES

    def test_config_file_is_loaded_with_default_rules(self, path: Path) -> None:
        config = self.load(path, GOOD)
        assert set(config.models) == {"gpt-4o-mini"}
        assert config.rate_limits.rules == DEFAULT_RULES

    def test_config_file_that_does_not_exist_is_named(self, path: Path) -> None:
        with pytest.raises(ConfigurationError) as caught:
            load_config(settings(config_file=path))
        assert caught.value.problems == [
            f"PLATFORM_CONFIG_FILE ({path}): cannot be read: No such file or directory; check the path"
        ]

    def test_config_file_not_utf8_is_refused(self, path: Path) -> None:
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigurationError, match="is not UTF-8 text"):
            load_config(settings(config_file=path))

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("providers:\n  openai: [\nmodels: {}\n", "line 2"),
            ("providers: {}\nmodels:\n\t- tab\n", "line 3"),
            ("a: 1\na: 2\n", "line 2"),
            ("models:\n  x: 1\n  y: 2\n  x: 3\n", "line 4"),
            ("? [a, b]\n: 1\n", "line 1"),
            ("models: !!python/object/apply:os.system ['true']\n", "line 1"),
            ("models: *nowhere\n", "line 1"),
        ],
    )
    def test_config_file_invalid_yaml_names_the_line(self, path: Path, text: str, line: str) -> None:
        [problem] = self.problems(path, text)
        assert problem.startswith("is not valid YAML: ")
        assert line in problem

    def test_config_file_duplicate_key_is_named(self, path: Path) -> None:
        [problem] = self.problems(path, "models:\n  gpt-4o: 1\n  gpt-4o: 2\n")
        assert "the key 'gpt-4o' occurs twice" in problem

    @pytest.mark.parametrize("text", ["models: {x: 2024-13-99}\n", "models: {x: 2024-13-99T00:00:00Z}\n"])
    def test_config_file_invalid_date_is_a_problem(self, path: Path, text: str) -> None:
        [problem] = self.problems(path, text)
        assert problem.startswith("is not valid YAML: ")

    def test_config_file_may_use_anchors_and_merges(self, path: Path) -> None:
        text = """
providers:
  openai: &account
    base_url: http://x/v1
    api_key_secret: KEY
  spare:
    <<: *account
    base_url: http://spare/v1
models:
  gpt-4o-mini: {routes: [{provider: spare, model: m}]}
"""
        config = self.load(path, text)
        assert config.providers["spare"].base_url == "http://spare/v1"
        assert config.providers["spare"].api_key_secret == "KEY"

    @pytest.mark.parametrize("content", ["", "null\n", "[]\n", "text\n", "5\n"])
    def test_config_file_without_mapping_is_refused(self, path: Path, content: str) -> None:
        assert len(self.problems(path, content)) == 1

    def test_config_file_reports_all_problems_with_paths(self, path: Path) -> None:
        content = {
            "providers": {
                "openai": {"base_url": "ftp://x", "api_key_secret": "KEY", "api_key": "sk-secret-in-the-file"},
                "Not A Name": PROVIDER,
            },
            "models": {"gpt-4o-mini": {"routes": []}, "other": {"routes": [{"provider": "openai"}]}},
            "rate_limits": {"rules": [{"name": "r", "scope": "keys", "limit": 0, "window_seconds": "soon"}]},
            "model": {},
        }
        problems = self.problems(path, content)
        assert sorted(problem.split(": ")[0] for problem in problems) == [
            "model",
            "models.gpt-4o-mini.routes",
            "models.other.routes.0.model",
            "providers.Not A Name.[key]",
            "providers.openai.api_key",
            "providers.openai.base_url",
            "rate_limits.rules.0.limit",
            "rate_limits.rules.0.scope",
            "rate_limits.rules.0.window_seconds",
        ]
        assert "providers.openai.base_url: expected an http:// or https:// URL with a host" in problems
        assert "sk-secret-in-the-file" not in " ".join(problems)

    def test_renamed_policy_fields_are_read_by_their_former_names(self) -> None:
        retry = RetryConfig.model_validate({"retry_after_cap_with_fallback_seconds": 0.5})
        assert retry.retry_after_max_seconds == 0.5
        both = {"retry_after_cap_with_fallback_seconds": 0.5, "retry_after_max_seconds": 1}
        with pytest.raises(ValidationError, match="former name of 'retry_after_max_seconds'"):
            RetryConfig.model_validate(both)

    def test_config_file_names_every_unknown_provider(self, path: Path) -> None:
        models = {
            "a": {"routes": [{"provider": "openai", "model": "m"}, {"provider": "opnai", "model": "m"}]},
            "b": {"routes": [{"provider": "azure", "model": "m"}]},
        }
        [problem] = self.problems(path, {**GOOD, "models": models})
        assert problem == (
            "models.a.routes.1.provider: 'opnai' is not under providers (openai); "
            "models.b.routes.0.provider: 'azure' is not under providers (openai)"
        )

    def test_config_file_duplicate_rule_name_is_refused(self, path: Path) -> None:
        rule = {"name": "rpm", "scope": "key", "limit": 1, "window_seconds": 60}
        [problem] = self.problems(path, {**GOOD, "rate_limits": {"rules": [rule, {**rule, "scope": "owner"}]}})
        assert problem == "rate_limits: rule names are used twice: rpm; give each rule its own name"

    def test_config_file_empty_list_of_rules_is_refused(self, path: Path) -> None:
        """An empty list must not remove all limits by accident."""
        [problem] = self.problems(path, {**GOOD, "rate_limits": {"rules": []}})
        assert problem.startswith("rate_limits.rules: ")

    def test_config_file_must_contain_the_default_model(self, path: Path) -> None:
        with pytest.raises(ConfigurationError) as caught:
            self.load(path, GOOD, default_model="gpt-5")
        assert caught.value.problems == [
            "PLATFORM_DEFAULT_MODEL: 'gpt-5' is not a model of the catalog; choose one of gpt-4o-mini"
        ]


def env_example() -> dict[str, tuple[str, str]]:
    """The variables of .env.example: what is written behind `=`, and the comment above."""
    found: dict[str, tuple[str, str]] = {}
    comment: list[str] = []
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#").strip() if line.startswith("#PLATFORM_") else line
        if text.startswith("# "):
            comment.append(text[2:])
        elif text.startswith("PLATFORM_"):
            name, _, value = text.partition("=")
            assert name not in found, f"{name} occurs twice in .env.example"
            found[name] = (value, " ".join(comment))
            comment = []
        else:
            comment = []
    return found


def default_text(field: str) -> str:
    default = Settings.model_fields[field].default
    if default is None or default is PydanticUndefined:
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


class TestEnvExample:
    def test_env_example_lists_exactly_the_settings(self) -> None:
        assert set(env_example()) == {f"PLATFORM_{name.upper()}" for name in Settings.model_fields}

    @pytest.mark.parametrize("field", sorted(Settings.model_fields))
    def test_env_example_documents_default_of_each_setting(self, field: str) -> None:
        value, comment = env_example()[f"PLATFORM_{field.upper()}"]
        assert value == default_text(field)
        assert len(comment) >= 20, "too short to explain anything"

    def test_env_example_values_equal_the_defaults(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, (value, _) in env_example().items():
            monkeypatch.setenv(name, value)
        assert settings() == settings(**{name: Settings.model_fields[name].default for name in ("port", "workers")})
        monkeypatch.undo()
        assert settings().model_dump() == settings(_env_file=ROOT / ".env.example").model_dump()


class TestJsonSchema:
    path = ROOT / "docs" / "platform-config.schema.json"

    def test_json_schema_is_generated_from_the_models(self) -> None:
        wanted = json.dumps(PlatformConfig.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
        assert self.path.read_text(encoding="utf-8") == wanted, (
            "docs/platform-config.schema.json is stale; generate it with:\n"
            "python -c 'import json, platform_app.config as c; "
            "print(json.dumps(c.PlatformConfig.model_json_schema(), indent=2, ensure_ascii=False))' "
            "> docs/platform-config.schema.json"
        )

    def test_json_schema_accepts_and_refuses_like_the_gateway(self) -> None:
        schema = json.loads(self.path.read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        assert validator.is_valid(GOOD)
        assert not validator.is_valid({**GOOD, "model": {}})
        assert not validator.is_valid({**GOOD, "models": {}})
        assert not validator.is_valid({**GOOD, "rate_limits": {"rules": []}})
        assert not validator.is_valid({"models": GOOD["models"]})
