"""Settings from the environment and the config file's models: the only reader of the environment.

Every problem is reported at once, by the name that its owner typed, with what to do about it.
"""

import ipaddress
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis.asyncio.connection import parse_url
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from platform_app.errors import ConfigurationError

ENV_PREFIX = "PLATFORM_"

# Names that `flowbiz-platform dev` writes for people and scripts; the gateway itself does not read them.
_FOR_PEOPLE = frozenset({"BASE_URL", "METRICS_URL", "ADMIN_KEY", "CHAT_KEY", "API_KEY_PEPPER"})
# Files, secrets and servers are looked for this long at start before the process gives up.
START_TIMEOUT_SECONDS = 30.0


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an http:// or https:// URL with a host")
    if parts.username or parts.password:
        raise ValueError("expected a URL without credentials; put them into the secret store")
    if parts.query or parts.fragment:
        raise ValueError("expected a URL without query or fragment")
    return value.rstrip("/")


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks in CIDR form, separated by commas. Raises ValueError naming what is none."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def _parses(parse: Callable[[str], object], url: str) -> bool:
    """Whether the library that will use the URL can read it. Its own words would show parts of the URL."""
    try:
        parse(url)
    except (ValueError, ArgumentError):
        return False
    return True


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Port = Annotated[int, Field(ge=1, le=65535)]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$")]
RuleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Settings(BaseSettings):
    """What the environment says, prefix `PLATFORM_`; `.env.example` explains each field."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    env: Literal["dev", "staging", "production"] = "dev"
    host: str = "127.0.0.1"
    port: Port = 8100
    metrics_host: str | None = None
    metrics_port: Port = 9100
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    replicas: Annotated[int, Field(ge=1, le=10_000)] = 1
    build_sha: str | None = None
    require_core: bool = False

    database_url: SecretStr
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 5
    database_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    database_statement_cache: bool = True
    redis_url: SecretStr
    redis_timeout_ms: Annotated[int, Field(ge=1, le=5000)] = 50

    config_file: Path | None = None
    llm_provider: RuleName = "openai"
    default_model: ModelName = "gpt-4o-mini"
    openai_base_url: HttpUrl = "https://api.openai.com/v1"
    openai_api_key_secret_name: SecretName = "OPENAI_API_KEY"  # noqa: S105 - the name of a secret, not one
    provider_connect_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    provider_first_byte_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 60.0
    provider_total_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 300.0
    provider_max_connections: Annotated[int, Field(ge=1, le=10_000)] = 500
    provider_max_response_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 32 * 1024 * 1024

    secret_provider: Literal["env"] = "env"  # noqa: S105 - the name of a store
    secret_ttl_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    api_key_pepper_secret_name: SecretName = "PLATFORM_API_KEY_PEPPER"  # noqa: S105 - a name

    auth_cache_ttl_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0
    auth_cache_size: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    auth_stale_seconds: Annotated[float, Field(ge=0, le=3600)] = 300.0

    auth_failures_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 60
    trusted_proxies: str = ""

    spool_dir: Path = Path(".data/spool")
    spool_max_bytes: Annotated[int, Field(ge=64 * 1024, le=1 << 40)] = 1 << 30
    spool_full_policy: Literal["refuse", "drop_oldest"] = "refuse"
    spool_fsync_seconds: Annotated[float, Field(ge=0, le=60)] = 0.0
    retention_days: Annotated[int, Field(ge=7, le=3650)] = 90

    max_body_bytes: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = 10 * 1024 * 1024
    body_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
    max_concurrent_requests: Annotated[int, Field(ge=1, le=100_000)] = 2_000
    shutdown_drain_seconds: Annotated[float, Field(ge=0, le=300)] = 2.0
    shutdown_grace_seconds: Annotated[int, Field(ge=1, le=3600)] = 30

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: SecretStr) -> SecretStr:
        scheme, _, rest = value.get_secret_value().partition("://")
        url = f"postgresql+asyncpg://{rest}"
        if scheme not in ("postgresql", "postgres", "postgresql+asyncpg") or not _parses(make_url, url):
            raise ValueError(
                "expected postgresql://user:password@host:5432/database, special characters of the password "
                "percent-encoded"
            )
        return SecretStr(url)

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr) -> SecretStr:
        if not _parses(parse_url, value.get_secret_value()):
            raise ValueError(
                "expected redis://:password@host:6379/0, special characters of the password percent-encoded, "
                "rediss://… for TLS, or unix:///path/to/socket"
            )
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        try:
            parse_networks(value)
        except ValueError as error:
            raise ValueError(f"{error}; expected addresses or networks, such as 10.0.0.0/8,192.0.2.7") from None
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.port == self.metrics_port:
            raise ValueError("PLATFORM_PORT and PLATFORM_METRICS_PORT are equal; metrics need a port of their own")
        return self

    @property
    def key_environment(self) -> Literal["live", "test"]:
        """The environment that new API keys carry in their prefix."""
        return "live" if self.env == "production" else "test"


class ConfigModel(BaseModel):
    """Base of everything in the config file: unknown fields are problems, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ProviderConfig(ConfigModel):
    """One upstream account: where it is, how it speaks, which secret opens it."""

    wire_format: Literal["openai"] = Field("openai", description="How requests are written.")
    base_url: HttpUrl = Field(description="The address before /chat/completions.")
    api_key_secret: SecretName = Field(description="Name of the credential in the secret store.")


class RouteConfig(ConfigModel):
    """One way to serve a model: which provider, and what the model is called there."""

    provider: RuleName
    model: ModelName = Field(description="The model's name at the provider.")


class ModelConfig(ConfigModel):
    """A public model name and the routes that serve it, best first."""

    routes: Annotated[tuple[RouteConfig, ...], Field(min_length=1, max_length=16)]


class LimitRule(ConfigModel):
    """At most `limit` units in any `window_seconds`, counted apart for each value of the scope."""

    name: RuleName
    scope: Literal["key", "owner", "route", "model", "key_route", "key_model", "global"]
    unit: Literal["requests"] = "requests"
    limit: Annotated[int, Field(ge=1, le=1_000_000_000)]
    window_seconds: Annotated[int, Field(ge=1, le=31 * 86_400)]
    routes: tuple[str, ...] = Field((), description="Only on these route templates; empty: on every limited one.")


DEFAULT_RULES = (
    LimitRule(name="key-rpm", scope="key", limit=60, window_seconds=60),
    LimitRule(name="route-rpm", scope="route", limit=6000, window_seconds=60),
)


class RateLimitsConfig(ConfigModel):
    """The limit rules; a file that names none gets the defaults, and an empty list is refused."""

    rules: Annotated[tuple[LimitRule, ...], Field(min_length=1, max_length=32)] = DEFAULT_RULES

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        names = [rule.name for rule in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rule names are used twice: {', '.join(twice)}; give each rule a name of its own")
        return self


class PlatformConfig(ConfigModel):
    """The config file as a whole."""

    providers: dict[RuleName, ProviderConfig]
    models: Annotated[dict[ModelName, ModelConfig], Field(min_length=1)]
    rate_limits: RateLimitsConfig = RateLimitsConfig()

    @model_validator(mode="after")
    def _routes_name_providers(self) -> Self:
        problems = [
            f"models.{name}.routes.{index}.provider: '{route.provider}' is not under providers "
            f"({', '.join(sorted(self.providers)) or 'none'})"
            for name, model in self.models.items()
            for index, route in enumerate(model.routes)
            if route.provider not in self.providers
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice, where YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                break  # SafeLoader says so, with the line
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    "in a mapping", node.start_mark, f"the key '{key}' stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; `overrides` (from command-line flags) win over it.

    Raises:
        ConfigurationError: with one line for every problem.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise ConfigurationError([_settings_problem(item) for item in error.errors()]) from None


def unknown_variables() -> list[str]:
    """Variables with our prefix that nothing reads: most likely misspelt.

    A warning and no error, since Kubernetes injects such names (`PLATFORM_SERVICE_HOST`) by itself.
    """
    known = {name.upper() for name in Settings.model_fields} | _FOR_PEOPLE
    return sorted(
        name for name in os.environ if name.startswith(ENV_PREFIX) and name.removeprefix(ENV_PREFIX) not in known
    )


def environment() -> Mapping[str, str]:
    """The environment itself, for the `env` secret store."""
    return os.environ


def load_config(settings: Settings) -> PlatformConfig:
    """The config file, or without one a catalog of the default model alone.

    Raises:
        ConfigurationError: with one line for every problem.
    """
    config = _read_config(settings.config_file) if settings.config_file else _default_config(settings)
    if settings.default_model not in config.models:
        raise ConfigurationError(
            [
                f"PLATFORM_DEFAULT_MODEL: '{settings.default_model}' is not a model of the catalog; "
                f"choose one of {', '.join(sorted(config.models))}"
            ]
        )
    return config


def _default_config(settings: Settings) -> PlatformConfig:
    provider = ProviderConfig(base_url=settings.openai_base_url, api_key_secret=settings.openai_api_key_secret_name)
    route = RouteConfig(provider=settings.llm_provider, model=settings.default_model)
    return PlatformConfig(
        providers={settings.llm_provider: provider},
        models={settings.default_model: ModelConfig(routes=(route,))},
    )


def _read_config(path: Path) -> PlatformConfig:
    where = f"PLATFORM_CONFIG_FILE ({path})"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError([f"{where}: cannot be read: {error.strerror}; check the path"]) from None
    except UnicodeDecodeError:
        raise ConfigurationError([f"{where}: is not UTF-8 text"]) from None
    try:
        # A SafeLoader: it builds plain data and nothing else.
        data = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise ConfigurationError([f"{where}: is not valid YAML: {' '.join(str(error).split())}"]) from None
    try:
        return PlatformConfig.model_validate(data)
    except ValidationError as error:
        items = [item for item in error.errors() if not _follows(item, error.errors())]
        raise ConfigurationError([f"{where}: {_place(item)}{_what(item)}" for item in items]) from None


def _settings_problem(item: Mapping[str, Any]) -> str:
    if not item["loc"]:
        return _what(item)
    name = ENV_PREFIX + str(item["loc"][0]).upper()
    if item["type"] == "missing":
        return f"{name}: is required and not set; set it (see .env.example)"
    return f"{name}: {_what(item)}"


def _follows(item: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> bool:
    """Whether pydantic calls a list too short only because items of it are wrong."""
    path = item["loc"]
    return item["type"] == "too_short" and any(
        len(other["loc"]) > len(path) and other["loc"][: len(path)] == path for other in others
    )


def _place(item: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in item["loc"]) + ": " if item["loc"] else ""


def _what(item: Mapping[str, Any]) -> str:
    return str(item["msg"]).removeprefix("Value error, ")
