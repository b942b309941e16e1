"""Read and validate the config file."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from platform_app.config.catalog import ModelConfig, ProviderConfig, RouteConfig
from platform_app.config.environment.variables import ENV_PREFIX, environment
from platform_app.config.fields import NameOrWildcard, OwnerName, RuleName
from platform_app.config.limits.rules import RateLimitsConfig
from platform_app.config.model_names import WILDCARD, ModelNames
from platform_app.config.policies import PoliciesConfig
from platform_app.config.reading.checks import Check, ConfigModel, find_inconsistencies
from platform_app.config.reading.expectations import Schema
from platform_app.config.reading.explain import Problem, explain, explain_types
from platform_app.config.reading.text_file import UnreadableFile, decode, read_bytes
from platform_app.config.reading.types import mistyped
from platform_app.config.reading.values import did_you_mean, path_text
from platform_app.config.reading.yaml_document import Document, InvalidYaml, read_yaml
from platform_app.config.settings import Settings, load_settings
from platform_app.errors import ConfigurationError

_PATHS = ("client_cert_file", "client_key_file")
"""The fields of a provider that are paths."""


class PlatformConfig(ConfigModel):
    """The whole config file."""

    providers: dict[RuleName, ProviderConfig]
    models: Annotated[dict[NameOrWildcard, ModelConfig], Field(min_length=1)]
    rate_limits: RateLimitsConfig = RateLimitsConfig()
    policies: PoliciesConfig = PoliciesConfig()
    owners: Annotated[tuple[OwnerName, ...], Field(min_length=1, max_length=1000)] | None = Field(
        None,
        description="The owners that keys may have; a key for another owner is refused. Without it every owner is "
        "accepted.",
    )
    log_level: Literal["debug", "info", "warning", "error"] | None = Field(
        None, description="The level of the workers' log lines; without it PLATFORM_LOG_LEVEL."
    )

    def checks(self) -> Iterable[Check]:
        """See ConfigModel.checks."""
        return (
            self._unique_owners,
            self._unique_aliases,
            self._limited_models,
            *(
                partial(check, (name, index))
                for check in (self._known_provider, self._capabilities, self._template)
                for name, model in self.models.items()
                for index in range(len(getattr(model, "routes", ())))
            ),
        )

    def _unique_owners(self) -> Iterator[Problem]:
        for index, owner in enumerate(self.owners or ()):
            if owner in (self.owners or ())[:index]:
                yield ("owners", index), f"'{owner}' occurs twice; remove one"

    @property
    def model_names(self) -> ModelNames:
        """The names under which the models can be requested."""
        return ModelNames({name: model.aliases for name, model in self.models.items()})

    def _unique_aliases(self) -> Iterator[Problem]:
        owners: dict[str, str] = {}
        for name, model in self.models.items():
            for index, alias in enumerate(getattr(model, "aliases", ())):
                path = ("models", name, "aliases", index)
                if alias in self.models:
                    yield path, f"'{alias}' is the name of a model; remove the alias or rename the model"
                elif alias in owners:
                    yield path, f"'{alias}' is an alias of '{owners[alias]}' already; remove one"
                owners.setdefault(alias, name)

    def _limited_models(self) -> Iterator[Problem]:
        names = ModelNames({name: getattr(model, "aliases", ()) for name, model in self.models.items()})
        for index, rule in enumerate(self.rate_limits.rules):
            for number, wanted in enumerate(getattr(rule, "models", ())):
                found = names.model_of(wanted)
                if found is not None and found != wanted:
                    path = ("rate_limits", "rules", index, "models", number)
                    yield path, f"'{wanted}' is counted as the model '{found}'; write '{found}'"

    def _template(self, place: tuple[str, int]) -> Iterator[Problem]:
        route = self._route(place)
        if WILDCARD in route.model and WILDCARD not in place[0]:
            path = ("models", place[0], "routes", place[1], "model")
            yield path, f"has a *, and the name '{place[0]}' has none that it could stand for; write a model's name"

    def _known_provider(self, place: tuple[str, int]) -> Iterator[Problem]:
        provider = self._route(place).provider
        if provider not in self.providers:
            similar = did_you_mean(provider, self.providers)
            advice = f"did you mean '{similar}'?" if similar else "add it there"
            yield (
                ("models", place[0], "routes", place[1], "provider"),
                f"'{provider}' is not under providers ({', '.join(sorted(self.providers)) or 'none'}); {advice}",
            )

    def _capabilities(self, place: tuple[str, int]) -> Iterator[Problem]:
        route = self._route(place)
        if route.capabilities is None or route.provider not in self.providers:
            return
        if self.providers[route.provider].wire_format != "anthropic":
            path = ("models", place[0], "routes", place[1], "capabilities")
            yield path, "only for providers of wire_format anthropic; leave it out"

    def _route(self, place: tuple[str, int]) -> RouteConfig:
        return self.models[place[0]].routes[place[1]]


def load_config(settings: Settings) -> PlatformConfig:
    """Return the config file, or without one a catalog with only the default model.

    Raises:
        ConfigurationError: with one line for every problem.
    """
    return load_config_file(settings)[0]


class ReadConfig(NamedTuple):
    """A valid configuration and the file's content; both digest and content are empty without a file."""

    config: PlatformConfig
    digest: str
    """SHA-256 of the content."""
    content: bytes


def load_config_file(settings: Settings) -> ReadConfig:
    """Return what `load_config` returns, and the file's content.

    Raises:
        ConfigurationError: with one line for every problem.
    """
    if settings.config_file is None:
        return ReadConfig(_default_config(settings), "", b"")
    return _read_config(settings.config_file, settings.default_model)


def parse_config_file(settings: Settings, content: bytes) -> ReadConfig:
    """Return the configuration of an earlier content of the config file.

    Raises:
        ConfigurationError: with one line for every problem.
    """
    assert settings.config_file is not None  # noqa: S101 - for mypy
    return _parse_config(content, settings.config_file, settings.default_model)


def _default_config(settings: Settings) -> PlatformConfig:
    provider = ProviderConfig(base_url=settings.openai_base_url, api_key_secret=settings.openai_api_key_secret_name)
    route = RouteConfig(provider=settings.llm_provider, model=settings.default_model)
    return PlatformConfig(
        providers={settings.llm_provider: provider},
        models={settings.default_model: ModelConfig(routes=(route,))},
    )


def load_settings_beside_file(**overrides: Any) -> Settings:
    """Return load_settings(…). If a setting is invalid, report the problems of the config file too.

    Raises:
        ConfigurationError: with one line for every problem of both.
    """
    try:
        return load_settings(**overrides)
    except ConfigurationError as error:
        raise ConfigurationError([*error.problems, *_problems_of_file(overrides, error.problems)]) from None


def _problems_of_file(overrides: Mapping[str, Any], known: Sequence[str]) -> list[str]:
    """Return the problems of the config file without valid settings."""
    named = str(overrides.get("config_file") or environment().get(f"{ENV_PREFIX}CONFIG_FILE", "")).strip()
    if not named or any(problem.startswith(f"{ENV_PREFIX}CONFIG_FILE") for problem in known):
        return []
    try:
        _read_config(Path(named).expanduser(), None)
    except ConfigurationError as error:
        return error.problems
    except RuntimeError:  # of an unknown user's home directory
        return []
    return []


def _read_config(path: Path, default_model: str | None) -> ReadConfig:
    try:
        content = read_bytes(path)
    except UnreadableFile as error:
        raise ConfigurationError([f"{_where(path)}: {error}"]) from None
    return _parse_config(content, path, default_model)


def _parse_config(content: bytes, path: Path, default_model: str | None) -> ReadConfig:
    where = _where(path)
    try:
        document = read_yaml(decode(content))
    except UnreadableFile as error:
        raise ConfigurationError([f"{where}: {error}"]) from None
    except InvalidYaml as error:
        raise ConfigurationError([f"{where}: is not valid YAML: {error}"]) from None
    _resolve_paths(document.data, path.parent)
    config, problems = _validate(document)
    if default_model is not None and (problem := _default_model_problem(document.data, default_model)) is not None:
        problems.append(problem)
    if config is None or problems:
        raise ConfigurationError([f"{where}: {problem}" if line else problem for line, problem in sorted(problems)])
    return ReadConfig(config, hashlib.sha256(content).hexdigest(), content)


def _where(path: Path) -> str:
    return f"PLATFORM_CONFIG_FILE ({path})"


def _resolve_paths(data: Any, directory: Path) -> None:
    """Let relative paths begin at the config file's directory, wherever the process was started."""
    providers = data.get("providers") if isinstance(data, dict) else None
    for provider in providers.values() if isinstance(providers, dict) else ():
        for name in _PATHS:
            value = provider.get(name) if isinstance(provider, dict) else None
            if isinstance(value, str) and value and not value.startswith("~"):
                provider[name] = str(directory / value)


def _validate(document: Document) -> tuple[PlatformConfig | None, list[tuple[int, str]]]:
    """Return the configuration, if it is valid, and every problem with its line."""
    if document.data is None and not document.problems:
        return None, [
            (1, "is empty; expected the sections providers and models, see docs/configuration/config-file.md")
        ]
    schema = _schema()
    found = [(line, f"line {line}: {sentence}") for _, line, sentence in document.problems]
    refused = set(document.refused)
    problems: list[Problem] = []
    types = [path for path in mistyped(schema, document.data) if path not in refused]
    problems += explain_types(types, document, schema)
    refused |= set(types)
    config = None
    try:
        config = PlatformConfig.model_validate(document.data)
    except ValidationError as error:
        explained = explain(error.errors(), document, schema)
        problems += [problem for problem in explained if problem[0] not in refused]
        refused |= {path for path, _ in problems}
        problems += [
            (path, f"{path_text(path)}: {sentence}" if path else sentence)
            for path, sentence in find_inconsistencies(PlatformConfig, document.data, refused)
        ]
    for path, sentence in problems:
        line = document.line_of(path)
        found.append((line, f"line {line}: {sentence}"))
    return config, found


@lru_cache(1)
def _schema() -> Schema:
    return PlatformConfig.model_json_schema()


def _default_model_problem(data: Any, default_model: str) -> tuple[int, str] | None:
    """Return the problem that the catalog lacks the default model. Line 0: it is not the file's."""
    models = data.get("models") if isinstance(data, dict) else None
    if not isinstance(models, dict) or not models or default_model in _requestable(models):
        return None
    similar = did_you_mean(default_model, _requestable(models).exact)
    advice = f"did you mean '{similar}'?" if similar else f"choose one of {', '.join(sorted(models))}"
    return 0, f"PLATFORM_DEFAULT_MODEL: '{default_model}' is not a model of the catalog; {advice}"


def _requestable(models: dict[Any, Any]) -> ModelNames:
    """Return the names under which models of an unchecked file can be requested."""
    found: dict[str, list[str]] = {}
    for name, model in models.items():
        aliases = model.get("aliases") if isinstance(model, dict) else None
        listed = aliases if isinstance(aliases, list) else []
        found[str(name)] = [alias for alias in listed if isinstance(alias, str)]
    return ModelNames(found)
