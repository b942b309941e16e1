"""Read and validate the config file."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from platform_app.config.catalog import ModelConfig, ProviderConfig, RouteConfig
from platform_app.config.fields import ConfigModel, ModelName, RuleName, what_is_wrong
from platform_app.config.limits import RateLimitsConfig
from platform_app.config.policies import PoliciesConfig
from platform_app.config.settings import Settings
from platform_app.errors import ConfigurationError


class PlatformConfig(ConfigModel):
    """The whole config file."""

    providers: dict[RuleName, ProviderConfig]
    models: Annotated[dict[ModelName, ModelConfig], Field(min_length=1)]
    rate_limits: RateLimitsConfig = RateLimitsConfig()
    policies: PoliciesConfig = PoliciesConfig()
    log_level: Literal["debug", "info", "warning", "error"] | None = Field(
        None, description="The level of the workers' log lines; without it PLATFORM_LOG_LEVEL."
    )

    @model_validator(mode="after")
    def _routes_name_providers(self) -> Self:
        problems = [
            f"models.{name}.routes.{index}.provider: '{route.provider}' is not under providers "
            f"({', '.join(sorted(self.providers)) or 'none'})"
            for name, model in self.models.items()
            for index, route in enumerate(model.routes)
            if route.provider not in self.providers
        ]
        problems += [
            f"models.{name}.routes.{index}.capabilities: only for providers of wire_format anthropic; leave it out"
            for name, model in self.models.items()
            for index, route in enumerate(model.routes)
            if route.capabilities is not None
            and (provider := self.providers.get(route.provider)) is not None
            and provider.wire_format != "anthropic"
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
                    "in a mapping", node.start_mark, f"the key '{key}' occurs twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def load_config(settings: Settings) -> PlatformConfig:
    """Return the config file, or without one a catalog with only the default model.

    Raises:
        ConfigurationError: with one line for every problem.
    """
    return load_config_file(settings)[0]


def load_config_file(settings: Settings) -> tuple[PlatformConfig, str]:
    """Return what `load_config` returns, and the SHA-256 of the file's content; empty without a file.

    Raises:
        ConfigurationError: with one line for every problem.
    """
    config, digest = _read_config(settings.config_file) if settings.config_file else (_default_config(settings), "")
    if settings.default_model not in config.models:
        raise ConfigurationError(
            [
                f"PLATFORM_DEFAULT_MODEL: '{settings.default_model}' is not a model of the catalog; "
                f"choose one of {', '.join(sorted(config.models))}"
            ]
        )
    return config, digest


def _default_config(settings: Settings) -> PlatformConfig:
    provider = ProviderConfig(base_url=settings.openai_base_url, api_key_secret=settings.openai_api_key_secret_name)
    route = RouteConfig(provider=settings.llm_provider, model=settings.default_model)
    return PlatformConfig(
        providers={settings.llm_provider: provider},
        models={settings.default_model: ModelConfig(routes=(route,))},
    )


def _read_config(path: Path) -> tuple[PlatformConfig, str]:
    where = f"PLATFORM_CONFIG_FILE ({path})"
    try:
        content = path.read_bytes()
        text = content.decode()
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
        return PlatformConfig.model_validate(data), hashlib.sha256(content).hexdigest()
    except ValidationError as error:
        items = [item for item in error.errors() if not _follows(item, error.errors())]
        raise ConfigurationError([f"{where}: {_place(item)}{what_is_wrong(item)}" for item in items]) from None


def _follows(item: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether pydantic reports a list as too short only because some of its items are invalid."""
    path = item["loc"]
    return item["type"] == "too_short" and any(
        len(other["loc"]) > len(path) and other["loc"][: len(path)] == path for other in others
    )


def _place(item: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in item["loc"]) + ": " if item["loc"] else ""
