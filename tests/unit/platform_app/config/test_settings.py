"""Settings from the environment: every problem at once, by name, with what to do, and never a secret."""

from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from platform_app.config import Settings, load_settings, service_links, unknown_variables
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

    def test_settings_blank_variable_means_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A blank path would be the current directory."""
        optional = [name for name, field in Settings.model_fields.items() if not field.is_required()]
        for name in optional:
            monkeypatch.setenv(f"PLATFORM_{name.upper()}", " \t")
        found = load_settings(database_url=DATABASE_URL, redis_url=REDIS_URL)
        assert {name: getattr(found, name) for name in optional} == {
            name: Settings.model_fields[name].default for name in optional
        }
        monkeypatch.setenv("PLATFORM_DATABASE_URL", " ")
        with pytest.raises(ConfigurationError, match="PLATFORM_DATABASE_URL"):
            load_settings(redis_url=REDIS_URL)

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
        assert "PLATFORM_ENV: expected one of dev, staging, production, got 'prod'" in problems
        assert "PLATFORM_PORT: expected a whole number from 1 to 65535, got 'eighty'" in problems
        assert (
            "PLATFORM_OPENAI_BASE_URL: expected an http:// or https:// URL with a host, got 'api.openai.com'"
            in problems
        )
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
            ("redis_url", "rediss://gw:pa55word\uff20x@r"),
            ("idempotency_redis_url", "rediss://gw:pa55word\uff1ax@r"),
            ("egress_proxy", "http://gw:pa55word\uff20x@proxy"),
            ("openai_base_url", "https://gw:pa55word\uff20x@provider"),
            ("openai_base_url", "https://gw:pa55word\uff0fx@provider"),
            ("openai_base_url", "gw:pa55word\uff20provider"),
            ("openai_base_url", "https://[pa55word]/v1"),
            ("vault_addr", "https://gw:pa55word\uff20x@vault"),
            ("aws_endpoint_url", "https://gw:pa55word\uff20x@aws"),
        ],
    )
    def test_settings_invalid_url_is_named_but_not_shown(self, field: str, url: str) -> None:
        [problem] = problems_of(**{field: url})
        assert problem.startswith(f"PLATFORM_{field.upper()}: expected ")
        assert "pa55word" not in problem

    @pytest.mark.parametrize(
        "url",
        ["ftp://x", "https://", "https://u:pa55word@api.openai.com/v1", "https://x/v1?key=pa55word", "https://x/#a", "http://[",
         "http://ä..example", "http://a..example", f"http://{'a' * 64}.example", "http://x:0", "http://x:99999"],
    )  # fmt: skip
    def test_settings_refuse_credentials_in_provider_url(self, url: str) -> None:
        [problem] = problems_of(openai_base_url=url)
        assert problem.startswith("PLATFORM_OPENAI_BASE_URL: ")
        assert "pa55word" not in problem

    def test_settings_strip_trailing_slash_of_provider_url(self) -> None:
        assert settings(openai_base_url="http://x/v1/").openai_base_url == "http://x/v1"

    def test_settings_refuse_equal_ports(self) -> None:
        for fields in ({"port": 9100}, {"port": 8200, "metrics_port": 8200}):
            [problem] = problems_of(**fields)
            assert problem.startswith(f"PLATFORM_PORT and PLATFORM_METRICS_PORT are equal ({fields['port']}); ")

    @pytest.mark.parametrize(
        ("field", "value", "found"),
        [
            ("log_level", "INFO", "info"),
            ("log_level", "Info ", "info"),
            ("log_format", "JSON", "json"),
            ("env", "Production\r", "production"),
            ("secret_provider", "ENV", "env"),
            ("redis_tls", "Off", "off"),
            ("trace_names", "OpenInference", "openinference"),
        ],
    )
    def test_settings_accept_choices_in_any_case(self, field: str, value: str, found: str) -> None:
        assert getattr(settings(**{field: value}), field) == found

    def test_settings_report_checks_beside_invalid_fields(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLATFORM_WORKERS", "many")
        monkeypatch.setenv("PLATFORM_MAX_BODY_BYTES", "99999999")
        first, second = problems_of()
        assert first == "PLATFORM_WORKERS: expected a whole number from 1 to 256, got 'many'"
        assert second.startswith("PLATFORM_MAX_BODY_BYTES_IN_FLIGHT_PER_KEY (33554432) is below ")

    @pytest.mark.parametrize("field", ["env", "database_url", "spool_dir"])
    def test_settings_in_quotes_are_refused(self, field: str) -> None:
        [problem] = problems_of(**{field: '"/srv/x"'})
        assert problem.startswith(f"PLATFORM_{field.upper()}: is in quotes, ")

    @pytest.mark.parametrize("field", ["spool_dir", "config_file", "secret_file_dir", "vault_ca_file"])
    def test_settings_expand_the_home_directory(self, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/operator")
        assert str(getattr(settings(**{field: "~/x"}), field)) == "/home/operator/x"
        [problem] = problems_of(**{field: "~no-such-user/x"})
        assert "a path whose ~ names a home directory that exists" in problem

    @pytest.mark.parametrize("host", ["0.0.0.0:8100", "http://0.0.0.0", "a b", "[::1]"])
    def test_settings_host_with_port_or_scheme_is_refused(self, host: str) -> None:
        [problem] = problems_of(host=host)
        assert problem.startswith("PLATFORM_HOST: expected an address or a host name without a port")

    @pytest.mark.parametrize("seconds", ["nan", "inf"])
    def test_settings_refuse_numbers_that_are_not_finite(self, seconds: str) -> None:
        assert problems_of(auth_cache_ttl_seconds=seconds) == [
            f"PLATFORM_AUTH_CACHE_TTL_SECONDS: expected a number from 0 to 60, got '{seconds}'"
        ]

    @pytest.mark.parametrize(
        "key",
        [
            "sk-proj-4f6dQ81c0aB2", "AKIAIOSFODNN7EXAMPLE", "fbp_live_000000000000_abc", "hvs.CAESIJlWh4",
            "eyJhbGciOiJIUzI1NiJ9abc", "0123456789abcdef0123456789abcdef", "9fJ2kQ7xW1pZ4mT8vB3n",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("field", ["openai_api_key_secret_name", "api_key_pepper_secret_name"])
    def test_settings_key_in_place_of_its_name_is_not_shown(self, field: str, key: str) -> None:
        [problem] = problems_of(**{field: key})
        assert problem.startswith(f"PLATFORM_{field.upper()}: looks like a key, not a name; ")
        assert key not in problem

    @pytest.mark.parametrize("name", ["team/openai#api_key", "OPENAI_API_KEY_2026", "risk-assessment-openai-2026-11"])
    def test_settings_accept_names_of_secrets(self, name: str) -> None:
        assert settings(openai_api_key_secret_name=name).openai_api_key_secret_name == name

    def test_settings_mask_keys_in_every_message(self) -> None:
        [problem] = problems_of(default_model="a sk-proj-4f6d81c0 key")
        assert "4f6d81c0" not in problem
        [problem] = problems_of(openai_base_url="https://x/fbp_live_000000000000_abcdefgh?x=1")
        assert "abcdefgh" not in problem

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

    def test_unknown_variables_have_suggestions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("PROT", "LOGLEVEL", "ZZZ", "PORT", "API_KEY_PEPPER", "PROMETHEUS_URL"):
            monkeypatch.setenv(f"PLATFORM_{name}", "1")
        assert unknown_variables() == {
            "PLATFORM_LOGLEVEL": "PLATFORM_LOG_LEVEL",
            "PLATFORM_PROT": "PLATFORM_PORT",
            "PLATFORM_ZZZ": None,
        }

    def test_service_links_of_kubernetes_are_ignored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        links = {
            "PLATFORM_PORT": "tcp://10.0.0.1:8100",
            "PLATFORM_SERVICE_HOST": "10.0.0.1",
            "PLATFORM_SERVICE_PORT": "8100",
            "PLATFORM_SERVICE_PORT_HTTP": "8100",
            "PLATFORM_PORT_8100_TCP": "tcp://10.0.0.1:8100",
            "PLATFORM_PORT_8100_TCP_PROTO": "tcp",
            "PLATFORM_PORT_8100_TCP_PORT": "8100",
            "PLATFORM_PORT_8100_TCP_ADDR": "10.0.0.1",
            "PLATFORM_METRICS_PORT": "tcp://10.0.0.2:9100",
            "PLATFORM_METRICS_SERVICE_HOST": "10.0.0.2",
        }
        for name, value in links.items():
            monkeypatch.setenv(name, value)
        found = settings()
        assert (found.port, found.metrics_port) == (8100, 9100)
        assert settings(port=8300).port == 8300
        assert service_links() == sorted(links)
        assert unknown_variables() == {}
        monkeypatch.setenv("PLATFORM_PORT", "udp")
        assert problems_of() == ["PLATFORM_PORT: expected a whole number from 1 to 65535, got 'udp'"]

    def test_renamed_settings_are_read_by_their_former_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        former, name = "PLATFORM_PROVIDER_FIRST_BYTE_TIMEOUT_SECONDS", "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS"
        monkeypatch.setenv(former, "7")
        assert settings().provider_idle_timeout_seconds == 7
        assert unknown_variables() == {}
        monkeypatch.setenv(former, "soon")
        [problem] = problems_of()
        assert problem.startswith(f"{name}: ")
        monkeypatch.setenv(former, "7")
        monkeypatch.setenv(name, "8")
        [problem] = problems_of()
        assert problem.startswith(f"{former}: is the former name of {name}")


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
