"""The config file: every problem at once, with its line and path, and what to do."""

import json
import os
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped] # it ships no types
import pytest
import yaml
from pydantic import ValidationError

from platform_app.config import DEFAULT_RULES, PlatformConfig, RetryConfig, Settings, load_config, load_settings
from platform_app.errors import ConfigurationError
from tests.support.paths import ROOT

pytestmark = pytest.mark.usefixtures("bare_environment")


def settings(**fields: Any) -> Settings:
    return load_settings(**{"database_url": "postgresql://db/p", "redis_url": "rediss://redis", **fields})


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
        assert all(problem.startswith((front, "PLATFORM_DEFAULT_MODEL: ")) for problem in caught.value.problems)
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

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (None, "cannot be read: no such file; check the path"),
            ("directory", "cannot be read: is a directory; name the file in it"),
            ("fifo", "is not a regular file; name a file that every worker can read again"),
            (b"a: 1\nb: \xfc\n", "line 2: is not UTF-8 text (byte 0xfc); save the file as UTF-8"),
            ("a: b\n".encode("utf-16"), "is not UTF-8 text but UTF-16; save it as UTF-8"),
        ],
    )
    def test_config_file_unreadable_has_its_reason(
        self, path: Path, content: bytes | str | None, expected: str
    ) -> None:
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content == "directory":
            path.mkdir()
        elif content == "fifo":
            os.mkfifo(path)
        with pytest.raises(ConfigurationError) as caught:
            load_config(settings(config_file=path))
        assert caught.value.problems == [f"PLATFORM_CONFIG_FILE ({path}): {expected}"]

    def test_config_file_relative_path_shows_the_directory(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            load_config(settings(config_file="no-such.yaml"))
        [problem] = caught.value.problems
        assert f"cannot be read (relative to {Path.cwd()}): no such file" in problem

    def test_config_file_with_byte_order_mark_is_read(self, path: Path) -> None:
        path.write_bytes(b"\xef\xbb\xbf" + yaml.safe_dump(GOOD).encode())
        assert set(load_config(settings(config_file=path)).models) == {"gpt-4o-mini"}

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("providers:\n  openai: [\nmodels: {}\n", "line 4"),
            ("providers: {}\nmodels:\n\t- tab\n", "line 3"),
            ("models: *nowhere\n", "line 1"),
            ("models: &a\n- *a\n", "line 1"),
            ("a: 1\n---\nb: 1\n", "line 2"),
            ("a: 1\nb: \x07\n", "line 2"),
        ],
    )
    def test_config_file_invalid_yaml_names_the_line(self, path: Path, text: str, line: str) -> None:
        [problem] = self.problems(path, text)
        assert problem.startswith(f"is not valid YAML: {line}")

    def test_config_file_syntax_error_quotes_no_secret(self, path: Path) -> None:
        [problem] = self.problems(path, "providers:\n  a: {api_key_secret: pa55word-in-the-file: [\n")
        assert "pa55word" not in problem

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

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("", "is empty; expected the sections providers and models"),
            ("# nothing\n", "is empty; expected the sections providers and models"),
            ("null\n", "is empty; expected the sections providers and models"),
            ("[]\n", "line 1: the file: expected a mapping with the keys providers, models, "),
            ("text\n", "line 1: the file: expected a mapping with the keys providers, models, "),
        ],
    )
    def test_config_file_without_mapping_is_refused(self, path: Path, content: str, expected: str) -> None:
        [problem] = self.problems(path, content)
        assert problem.startswith(expected)

    def test_config_file_bare_sections_have_no_value(self, path: Path) -> None:
        assert self.problems(path, "providers:\nmodels:\nrate_limits: ~\n") == [
            f"line {line}: {name}: has no value; write a value, or remove the key"
            for line, name in enumerate(("providers", "models", "rate_limits"), start=1)
        ]

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
        text = "\n".join(problems)
        for expected in (
            "unknown key 'api_key' in providers.openai; did you mean 'api_key_secret'?",
            "providers.openai.base_url: expected an http:// or https:// URL with a host, got 'ftp://x'",
            "providers.Not A Name: the key is not valid; expected a name of up to 63 lower-case letters, digits and -",
            "models.gpt-4o-mini.routes: expected a list of 1 to 16 items, got an empty list",
            "models.other.routes[0]: the key 'model' is missing; add it: a model's name",
            "rate_limits.rules[0].limit: expected a number above 0, up to 1000000000, got 0",
            "rate_limits.rules[0].scope: expected one of key, owner, route, ",
            "rate_limits.rules[0].window_seconds: expected a whole number from 1 to 2678400, got 'soon'",
            "unknown key 'model' in the file; did you mean 'models'?",
        ):
            assert expected in text
        assert len(problems) == 9
        assert all(problem.startswith("line ") for problem in problems)
        assert "sk-secret-in-the-file" not in text

    def test_renamed_policy_fields_are_read_by_their_former_names(self) -> None:
        retry = RetryConfig.model_validate({"retry_after_cap_with_fallback_seconds": 0.5})
        assert retry.retry_after_max_seconds == 0.5
        both = {"retry_after_cap_with_fallback_seconds": 0.5, "retry_after_max_seconds": 1}
        with pytest.raises(ValidationError, match="former name of 'retry_after_max_seconds'"):
            RetryConfig.model_validate(both)

    def test_config_file_checks_run_beside_invalid_fields(self, path: Path) -> None:
        """A field error in one place does not hide what checks find in other places, also in the same mapping."""
        text = """
providers:
  openai: {base_url: http://x/v1, max_waiting: many, headers: {Cookie: x}, api_version: 2024-10-21}
models:
  gpt-4o-mini:
    context_tokens: 0
    routes:
    - {provider: opnai, model: m}
    - {provider: openai, model: m, wieght: 2, capabilities: {}}
    - {provider: openai, model: m}
rate_limits:
  rules:
  - {name: one, scope: key, limit: 5, window_seconds: 60, unit: concurrent}
  - {name: one, scope: key, limit:}
"""
        assert self.problems(path, text) == [
            "line 3: providers.openai.api_version: is for azure and anthropic; leave it out",
            "line 3: providers.openai.headers.Cookie: the gateway sets this header itself; remove it",
            "line 3: providers.openai.max_waiting: expected a whole number from 0 to 100000, got 'many'",
            "line 6: models.gpt-4o-mini.context_tokens: expected a whole number from 1 to 100000000, got 0",
            "line 8: models.gpt-4o-mini.routes[0].provider: 'opnai' is not under providers (openai); did you mean "
            "'openai'?",
            "line 9: models.gpt-4o-mini.routes[1].capabilities: only for providers of wire_format anthropic; leave it "
            "out",
            "line 9: unknown key 'wieght' in models.gpt-4o-mini.routes[1]; did you mean 'weight'?",
            "line 10: models.gpt-4o-mini.routes[2]: the route openai/m occurs twice; remove the copy, a failed route "
            "is retried anyway",
            "line 13: rate_limits.rules[0]: rule 'one': concurrent requests have no window; leave window_seconds and "
            "window out",
            "line 14: rate_limits.rules[1].limit: has no value; write a value, or remove the key",
            "line 14: rate_limits.rules[1]: rule 'one': exactly one of window_seconds and window is needed",
        ]

    def test_config_file_duplicate_rule_name_is_refused(self, path: Path) -> None:
        rule = {"name": "rpm", "scope": "key", "limit": 1, "window_seconds": 60}
        [problem] = self.problems(
            path, {**GOOD, "rate_limits": {"rules": [rule, {**rule, "unit": "tokens", "limit": 1000}]}}
        )
        assert problem.endswith("rate_limits: rule names are used twice: rpm; give each rule its own name")

    def test_config_file_empty_list_of_rules_is_refused(self, path: Path) -> None:
        """An empty list must not remove all limits by accident."""
        [problem] = self.problems(path, {**GOOD, "rate_limits": {"rules": []}})
        assert problem.endswith("rate_limits.rules: expected a list of 1 to 32 items, got an empty list")

    def test_config_file_must_contain_the_default_model(self, path: Path) -> None:
        with pytest.raises(ConfigurationError) as caught:
            self.load(path, GOOD, default_model="claude")
        assert caught.value.problems == [
            "PLATFORM_DEFAULT_MODEL: 'claude' is not a model of the catalog; choose one of gpt-4o-mini"
        ]


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
