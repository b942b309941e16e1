"""Settings from the environment: the only reader of it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from platform_app.config.connections.database_url import DatabaseTarget, parse_database_url
from platform_app.config.connections.egress import DIRECT, Egress, parse_proxy, read_egress
from platform_app.config.connections.redis_url import check_redis_url, is_unverified, sends_in_clear, with_ca_file
from platform_app.config.connections.tls_files import ca_problem
from platform_app.config.fields import (
    HttpUrl,
    ModelName,
    Port,
    RuleName,
    SecretName,
    parse_networks,
    what_is_wrong,
)
from platform_app.config.origins import parse_origins
from platform_app.config.secret_files import settings_from_files
from platform_app.config.secret_stores import SecretStoreSettings
from platform_app.errors import ConfigurationError

ENV_PREFIX = "PLATFORM_"

# Names that `flowbiz-platform dev` writes for people and scripts; the gateway itself does not read them.
_FOR_PEOPLE = frozenset({"BASE_URL", "METRICS_URL", "ADMIN_KEY", "CHAT_KEY", "API_KEY_PEPPER"})
FORMER_NAMES = {"PROVIDER_FIRST_BYTE_TIMEOUT_SECONDS": "provider_idle_timeout_seconds"}
"""Former names of settings, which are still read."""

# At start the process waits this long for files, secrets and servers.
START_TIMEOUT_SECONDS = 30.0


class Settings(SecretStoreSettings):
    """Settings from environment variables with the prefix `PLATFORM_`; `.env.example` explains each field."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    env: Literal["dev", "staging", "production"] = "dev"
    host: str = "127.0.0.1"
    port: Port = 8100
    metrics_host: str | None = None
    metrics_port: Port = 9100
    metrics_cache_seconds: Annotated[float, Field(ge=0, le=60)] = 1.0
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    worker_timeout_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    replicas: Annotated[int, Field(ge=1, le=10_000)] = 1
    build_sha: str | None = None
    require_core: bool = False

    # Fields that a URL's validator reads come before the URL.
    database_ca_file: Path | None = None
    database_url: SecretStr
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 5
    database_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    database_statement_cache: bool = True
    redis_tls: Literal["verify", "off"] = "verify"
    redis_ca_file: Path | None = None
    redis_url: SecretStr
    redis_cluster: bool = False
    redis_timeout_ms: Annotated[int, Field(ge=1, le=5000)] = 50

    config_file: Path | None = None
    llm_provider: RuleName = "openai"
    default_model: ModelName = "gpt-4o-mini"
    openai_base_url: HttpUrl = "https://api.openai.com/v1"
    openai_api_key_secret_name: SecretName = "OPENAI_API_KEY"  # noqa: S105 - the name of a secret, not one
    provider_connect_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    provider_idle_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 60.0
    provider_total_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 300.0
    provider_max_connections: Annotated[int, Field(ge=1, le=10_000)] = 500
    egress_proxy: SecretStr | None = None
    ca_bundle: Path | None = None
    provider_max_response_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 32 * 1024 * 1024

    api_key_pepper_secret_name: SecretName = "PLATFORM_API_KEY_PEPPER"  # noqa: S105 - a name

    auth_cache_ttl_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0
    auth_cache_size: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    auth_stale_seconds: Annotated[float, Field(ge=0, le=3600)] = 300.0

    auth_failures_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 60
    trusted_proxies: str = ""
    cors_origins: str = ""

    spool_dir: Path = Path(".data/spool")
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

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

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
    def _certificates(cls, value: Path | None) -> Path | None:
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
        problems = []
        if self.redis_cluster and self.redis_url.get_secret_value().startswith("unix:"):
            problems.append("PLATFORM_REDIS_CLUSTER needs a redis:// or rediss:// URL of one of the cluster's nodes")
        if self.max_body_bytes_in_flight_per_key < self.max_body_bytes:
            problems.append(
                "PLATFORM_MAX_BODY_BYTES_IN_FLIGHT_PER_KEY is below PLATFORM_MAX_BODY_BYTES; no key could send the "
                "largest body. Raise the former or lower the latter"
            )
        if self.max_body_bytes_in_flight < self.max_body_bytes_in_flight_per_key:
            problems.append(
                "PLATFORM_MAX_BODY_BYTES_IN_FLIGHT is below PLATFORM_MAX_BODY_BYTES_IN_FLIGHT_PER_KEY; one key could "
                "take all of it. Raise the former or lower the latter"
            )
        own = self.idempotency_redis_url
        if self.idempotency_redis_cluster and (own is None or own.get_secret_value().startswith("unix:")):
            problems.append(
                "PLATFORM_IDEMPOTENCY_REDIS_CLUSTER needs PLATFORM_IDEMPOTENCY_REDIS_URL, a redis:// or rediss:// URL "
                "of one of the cluster's nodes"
            )
        if self.port == self.metrics_port:
            problems.append("PLATFORM_PORT and PLATFORM_METRICS_PORT are equal; metrics need a separate port")
        if problems:
            raise ValueError("\n".join(problems))
        return self

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
    former, problems = _read_former_names()
    directory = os.environ.get(f"{ENV_PREFIX}SECRET_FILE_DIR")
    files, file_problems = settings_from_files(
        _SECRET_FIELDS - overrides.keys(), Path(directory) if directory else None, os.environ, ENV_PREFIX
    )
    problems += file_problems
    try:
        settings = Settings(**{**former, **files, **overrides})
    except ValidationError as error:
        unusable = {line.partition(":")[0] for line in file_problems}
        lines = [line for item in error.errors() for line in _settings_problem(item).split("\n")]
        problems += [line for line in lines if line.partition(":")[0] not in unusable]
    else:
        problems += _standard_problems(settings)
    if problems:
        raise ConfigurationError(problems) from None
    return settings


def _standard_problems(settings: Settings) -> list[str]:
    """Return what is wrong with variables that other programs share with the gateway."""
    problems = []
    try:
        _ = settings.egress
    except ValueError as error:
        problems.append(f"HTTPS_PROXY: {error}; or set PLATFORM_EGRESS_PROXY={DIRECT} to use no proxy")
    path = os.environ.get("SSL_CERT_FILE")
    if path and (problem := ca_problem(Path(path))) is not None:
        problems.append(f"SSL_CERT_FILE: {problem}, or unset it")
    return problems


def _read_former_names() -> tuple[dict[str, str], list[str]]:
    """Return the settings that the environment states by their former names, and a problem for each that it also states
    by its name."""
    found, problems = {}, []
    for former, name in FORMER_NAMES.items():
        old, new = ENV_PREFIX + former, ENV_PREFIX + name.upper()
        if value := os.environ.get(old):
            if os.environ.get(new):
                problems.append(f"{old}: is the former name of {new}, which is set too; unset it")
            found[name] = value
    return found, problems


def unknown_variables() -> list[str]:
    """Return variables with the prefix `PLATFORM_` that the gateway does not read: most likely misspelt.

    They cause a warning and not an error, because Kubernetes injects such names (`PLATFORM_SERVICE_HOST`).
    """
    known = {name.upper() for name in Settings.model_fields} | _FOR_PEOPLE | FORMER_NAMES.keys()
    return sorted(
        name for name in os.environ if name.startswith(ENV_PREFIX) and name.removeprefix(ENV_PREFIX) not in known
    )


def environment() -> Mapping[str, str]:
    """Return the environment, for the `env` secret store."""
    return os.environ


def _settings_problem(item: Mapping[str, Any]) -> str:
    if not item["loc"]:
        return what_is_wrong(item)
    name = ENV_PREFIX + str(item["loc"][0]).upper()
    if item["type"] == "missing":
        return f"{name}: required but not set; set it (see .env.example)"
    return f"{name}: {what_is_wrong(item)}"
