"""Settings from the environment: the only reader of it."""

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import SettingsConfigDict

from platform_app.config.connections.database_url import DatabaseTarget, parse_database_url
from platform_app.config.connections.egress import DIRECT, Egress, parse_proxy, read_egress
from platform_app.config.connections.redis_url import (
    check_redis_url,
    is_unverified,
    selects_database,
    sends_in_clear,
    with_ca_file,
)
from platform_app.config.connections.tls_files import ca_problem
from platform_app.config.environment.problems import setting_problem
from platform_app.config.environment.standard import standard_problems
from platform_app.config.environment.values import normalised
from platform_app.config.environment.variables import ENV_PREFIX, PORTS, find_unknown, read_former_names, service_links
from platform_app.config.fields import (
    FilePath,
    HostName,
    HttpUrl,
    ModelName,
    Port,
    RuleName,
    SecretName,
    parse_networks,
)
from platform_app.config.origins import parse_origins
from platform_app.config.reading.explain import INCONSISTENT
from platform_app.config.secrets.files import settings_from_files
from platform_app.config.secrets.stores import SecretStoreSettings
from platform_app.errors import ConfigurationError

_ONE_DATABASE = "a Redis cluster has database 0 only; remove the number from the path, or db"


class Settings(SecretStoreSettings):
    """Settings from environment variables with the prefix `PLATFORM_`; `.env.example` explains each field."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    env: Literal["dev", "staging", "production"] = "dev"
    host: HostName = "127.0.0.1"
    port: Port = 8100
    metrics_host: HostName | None = None
    metrics_port: Port = 9100
    metrics_cache_seconds: Annotated[float, Field(ge=0, le=60)] = 1.0
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    worker_timeout_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    replicas: Annotated[int, Field(ge=1, le=10_000)] = 1
    build_sha: str | None = None
    require_core: bool = False

    # Fields that a URL's validator reads come before the URL.
    database_ca_file: FilePath | None = None
    database_url: SecretStr
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 5
    database_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    database_statement_cache: bool = True
    start_timeout_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    redis_tls: Literal["verify", "off"] = "verify"
    redis_ca_file: FilePath | None = None
    redis_url: SecretStr
    redis_cluster: bool = False
    redis_timeout_ms: Annotated[int, Field(ge=1, le=5000)] = 50

    config_file: FilePath | None = None
    llm_provider: RuleName = "openai"
    default_model: ModelName = "gpt-4o-mini"
    openai_base_url: HttpUrl = "https://api.openai.com/v1"
    openai_api_key_secret_name: SecretName = "OPENAI_API_KEY"  # noqa: S105 - the name of a secret, not one
    provider_connect_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    provider_idle_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 60.0
    provider_total_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 300.0
    provider_max_connections: Annotated[int, Field(ge=1, le=10_000)] = 500
    egress_proxy: SecretStr | None = None
    ca_bundle: FilePath | None = None
    provider_max_response_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 32 * 1024 * 1024

    api_key_pepper_secret_name: SecretName = "PLATFORM_API_KEY_PEPPER"  # noqa: S105 - a name

    auth_cache_ttl_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0
    auth_cache_size: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    auth_stale_seconds: Annotated[float, Field(ge=0, le=3600)] = 300.0

    auth_failures_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 60
    trusted_proxies: str = ""
    cors_origins: str = ""

    spool_dir: FilePath = Path(".data/spool")
    spool_max_bytes: Annotated[int, Field(ge=64 * 1024, le=1 << 40)] = 1 << 30
    spool_full_policy: Literal["refuse", "drop_oldest"] = "refuse"
    spool_fsync_seconds: Annotated[float, Field(ge=0, le=60)] = 0.0
    retention_days: Annotated[int, Field(ge=7, le=3650)] = 90
    refusals_per_address_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 60
    usage_retention_days: Annotated[int, Field(ge=7, le=3650)] = 400

    idempotency_ttl_seconds: Annotated[int, Field(ge=0, le=7 * 86_400)] = 86_400
    idempotency_max_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    idempotency_key_quota_bytes: Annotated[int, Field(ge=64 * 1024, le=1 << 40)] = 64 * 1024 * 1024
    idempotency_owner_quota_bytes: Annotated[int, Field(ge=64 * 1024, le=1 << 40)] = 256 * 1024 * 1024
    idempotency_redis_url: SecretStr | None = None
    idempotency_redis_cluster: bool = False
    idempotency_failure_policy: Literal["refuse", "proceed"] = "refuse"

    max_body_bytes: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = 10 * 1024 * 1024
    body_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
    max_concurrent_requests: Annotated[int, Field(ge=1, le=100_000)] = 2_000
    max_body_bytes_in_flight: Annotated[int, Field(ge=1024, le=1 << 40)] = 128 * 1024 * 1024
    max_body_bytes_in_flight_per_key: Annotated[int, Field(ge=1024, le=1 << 40)] = 32 * 1024 * 1024
    max_json_values: Annotated[int, Field(ge=1000, le=10_000_000)] = 100_000
    max_head_bytes: Annotated[int, Field(ge=1024, le=1024 * 1024)] = 32 * 1024
    max_head_bytes_in_flight: Annotated[int, Field(ge=64 * 1024, le=1 << 40)] = 32 * 1024 * 1024
    max_header_count: Annotated[int, Field(ge=10, le=10_000)] = 100
    max_trailer_bytes: Annotated[int, Field(ge=2, le=1024 * 1024)] = 8 * 1024
    max_pipelined_bytes: Annotated[int, Field(ge=1024, le=16 * 1024 * 1024)] = 64 * 1024
    max_connections: Annotated[int, Field(ge=16, le=1_000_000)] = 4_000
    max_connections_per_address: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    head_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 10.0
    keep_alive_seconds: Annotated[float, Field(gt=0, le=3600)] = 75.0
    stream_keep_alive_seconds: Annotated[float, Field(gt=0, le=300)] = 15.0
    write_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
    max_unsent_bytes: Annotated[int, Field(ge=64 * 1024, le=1 << 40)] = 32 * 1024 * 1024
    min_data_rate: Annotated[int, Field(ge=1, le=1024 * 1024)] = 240
    shutdown_drain_seconds: Annotated[float, Field(ge=0, le=300)] = 2.0
    shutdown_grace_seconds: Annotated[int, Field(ge=1, le=3600)] = 30

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    log_repeats_per_second: Annotated[int, Field(ge=0, le=1_000_000)] = 20

    trace_sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    trace_slow_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    trace_slow_overhead_ms: Annotated[float, Field(gt=0, le=60_000)] = 250.0
    trace_kept_per_second: Annotated[float, Field(ge=0, le=1000)] = 20.0
    trace_content_bytes: Annotated[int, Field(ge=0, le=32_768)] = 0
    trace_names: Literal["genai", "openinference"] = "genai"

    @field_validator("*", mode="before")
    @classmethod
    def _normalised(cls, value: object, info: ValidationInfo) -> object:
        return normalised(cls, info.field_name or "", value)

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        url = value.get_secret_value()
        parse_database_url(url, info.data.get("database_ca_file"))
        return SecretStr(f"postgresql+asyncpg://{url.partition('://')[2]}")

    @field_validator("redis_url", "idempotency_redis_url")
    @classmethod
    def _redis(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None:
            check_redis_url(
                value.get_secret_value(),
                in_clear=info.data.get("redis_tls") == "off",
                ca_file=info.data.get("redis_ca_file"),
            )
        return value

    @field_validator("cors_origins")
    @classmethod
    def _cors_origins(cls, value: str) -> str:
        parse_origins(value)
        return value

    @field_validator("egress_proxy")
    @classmethod
    def _proxy(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and value.get_secret_value() != DIRECT:
            parse_proxy(value.get_secret_value())
        return value

    @field_validator("ca_bundle")
    @classmethod
    def _certificates(cls, value: FilePath | None) -> Path | None:
        if value is not None and (problem := ca_problem(value)) is not None:
            raise ValueError(problem)
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
        if problems := [problem for check in self.checks() for problem in check]:
            raise PydanticCustomError(INCONSISTENT, "{problems}", {"problems": "\n".join(problems)})
        return self

    def checks(self) -> Iterable[Iterator[str]]:
        """Return the checks that compare settings. Each yields problems, and needs all settings that it reads."""
        return self._redis_cluster(), self._stored_responses(), self._body_bytes(), self._ports()

    def _redis_cluster(self) -> Iterator[str]:
        if self.redis_cluster and self.redis_client_url.startswith("unix:"):
            yield "PLATFORM_REDIS_CLUSTER needs a redis:// or rediss:// URL of one of the cluster's nodes"
        elif self.redis_cluster and selects_database(self.redis_client_url):
            yield f"PLATFORM_REDIS_URL: {_ONE_DATABASE}"

    def _stored_responses(self) -> Iterator[str]:
        own = self.idempotency_redis_url
        if self.idempotency_redis_cluster and (own is None or own.get_secret_value().startswith("unix:")):
            yield (
                "PLATFORM_IDEMPOTENCY_REDIS_CLUSTER needs PLATFORM_IDEMPOTENCY_REDIS_URL, a redis:// or rediss:// URL "
                "of one of the cluster's nodes"
            )
        elif self.idempotency_redis_cluster and selects_database(self.idempotency_client_url):
            yield f"PLATFORM_IDEMPOTENCY_REDIS_URL: {_ONE_DATABASE}"

    def _body_bytes(self) -> Iterator[str]:
        body, key, process = (
            self.max_body_bytes, self.max_body_bytes_in_flight_per_key, self.max_body_bytes_in_flight,
        )  # fmt: skip
        if key < body:
            yield (
                f"PLATFORM_MAX_BODY_BYTES_IN_FLIGHT_PER_KEY ({key}) is below PLATFORM_MAX_BODY_BYTES ({body}); no key "
                "could send the largest body. Raise the former or lower the latter"
            )
        if process < key:
            yield (
                f"PLATFORM_MAX_BODY_BYTES_IN_FLIGHT ({process}) is below PLATFORM_MAX_BODY_BYTES_IN_FLIGHT_PER_KEY "
                f"({key}); one key could take all of it. Raise the former or lower the latter"
            )

    def _ports(self) -> Iterator[str]:
        if self.port == self.metrics_port:
            yield (
                f"PLATFORM_PORT and PLATFORM_METRICS_PORT are equal ({self.port}); metrics need a separate port: "
                "change one of them"
            )

    @property
    def database(self) -> DatabaseTarget:
        """The database's address and connection settings; contains the password."""
        return parse_database_url(self.database_url.get_secret_value(), self.database_ca_file)

    @property
    def redis_client_url(self) -> str:
        """The URL for redis-py, with the CAs to trust; contains the password."""
        return with_ca_file(self.redis_url.get_secret_value(), self.redis_ca_file)

    @property
    def idempotency_client_url(self) -> str:
        """The URL of the Redis with stored responses, for redis-py; contains the password."""
        if self.idempotency_redis_url is None:
            return self.redis_client_url
        return with_ca_file(self.idempotency_redis_url.get_secret_value(), self.redis_ca_file)

    @property
    def egress(self) -> Egress:
        """The proxy for providers; contains the proxy's credentials."""
        own = self.egress_proxy
        return read_egress(None if own is None else own.get_secret_value(), os.environ)

    def insecure_connections(self) -> list[str]:
        """Return a line for each store whose TLS the operator turned off or left unverified by name."""
        found = []
        if (mode := self.database.insecure_mode) is not None:
            found.append(f"PLATFORM_DATABASE_URL says sslmode={mode}: the database is not verified")
        if sends_in_clear(self.redis_client_url):
            found.append("PLATFORM_REDIS_TLS=off: Redis gets the password and all counters in clear")
        elif is_unverified(self.redis_client_url):
            found.append("PLATFORM_REDIS_URL turns verification off (ssl_cert_reqs, ssl_check_hostname)")
        if self.idempotency_redis_url is not None:
            if sends_in_clear(self.idempotency_client_url):
                found.append("PLATFORM_REDIS_TLS=off: the idempotency Redis gets the password and responses in clear")
            elif is_unverified(self.idempotency_client_url):
                found.append(
                    "PLATFORM_IDEMPOTENCY_REDIS_URL turns verification off (ssl_cert_reqs, ssl_check_hostname)"
                )
        return found

    @property
    def key_environment(self) -> Literal["live", "test"]:
        """The environment that new API keys carry in their prefix."""
        return "live" if self.env == "production" else "test"


_SECRET_FIELDS = frozenset(
    name
    for name, field in Settings.model_fields.items()
    if SecretStr in (field.annotation, *get_args(field.annotation))
)


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; `overrides` (from command-line flags) win over it.

    Settings that are secrets may be files in `PLATFORM_SECRET_FILE_DIR` instead.

    Raises:
        ConfigurationError: with one line for every problem.
    """
    former, problems = read_former_names()
    files, file_problems = _read_secret_files(overrides.keys())
    given = {**_without_service_links(), **former, **files, **overrides}
    try:
        settings = Settings(**given)
    except ValidationError:
        unusable = {line.partition(":")[0] for line in file_problems}
        problems += [line for line in _all_problems(given) if line.partition(":")[0] not in unusable]
    else:
        own = settings.egress_proxy
        problems += standard_problems(None if own is None else own.get_secret_value(), os.environ)
    if problems or file_problems:
        raise ConfigurationError(file_problems + problems) from None
    return settings


def _read_secret_files(overridden: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Return the settings that are files of PLATFORM_SECRET_FILE_DIR, and their problems."""
    directory = os.environ.get(f"{ENV_PREFIX}SECRET_FILE_DIR")
    path = None
    if directory and directory.strip():
        with suppress(RuntimeError):  # of an unknown user; the setting's own check reports it
            path = Path(directory.strip()).expanduser()
    return settings_from_files(_SECRET_FIELDS.difference(overridden), path, os.environ, ENV_PREFIX)


def _without_service_links() -> dict[str, Any]:
    """Return the defaults of the settings whose variable Kubernetes set for a Service."""
    links = service_links()
    return {name: Settings.model_fields[name].default for name in PORTS if ENV_PREFIX + name.upper() in links}


def unknown_variables() -> dict[str, str | None]:
    """Return variables with the prefix `PLATFORM_` that the gateway does not read, each with the most similar name."""
    return find_unknown(Settings.model_fields)


class _UncheckedSettings(Settings):
    """Settings whose fields are valid one by one."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        return self


def _all_problems(given: dict[str, Any]) -> list[str]:
    """Return a line for each invalid setting, and for each check that fails among the others."""
    problems: list[str] = []
    invalid: set[str] = set()
    while True:
        placeholders = {name: _PLACEHOLDERS.get(name, Settings.model_fields[name].default) for name in invalid}
        try:
            valid = _UncheckedSettings(**{**given, **placeholders})
            break
        except ValidationError as error:
            # A field that failed only because another one was replaced is not reported.
            new = {str(item["loc"][0]): item for item in error.errors() if item["loc"][0] not in invalid}
            problems += [setting_problem(Settings, name, item) for name, item in new.items() if not placeholders]
            invalid |= new.keys() or set(Settings.model_fields)
    for name in invalid:
        valid.__dict__.pop(name)
    for check in valid.checks():
        try:
            problems += check
        except AttributeError as error:
            if error.name not in invalid:
                raise
    return problems


_PLACEHOLDERS = {"database_url": "postgresql://localhost/x", "redis_url": "redis://localhost"}
"""Values for required settings, in place of invalid ones."""
