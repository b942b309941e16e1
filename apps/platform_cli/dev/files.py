"""The files that `flowbiz-platform dev` writes: `dev.env`, which the next start reads, and `platform.yaml`."""

import re
import secrets
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from apps.platform_cli.embedded.private_file import replace_private
from apps.provider_simulator.faults.catalog import MODELS

SIMULATED_KEY_PREFIX = "sk-sim-"
_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_KEY_SECRET = "OPENAI_API_KEY"  # noqa: S105 - the name of a secret, not one
_OPENAI_MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-4.1-mini", "gpt-4.1", "text-embedding-3-small")
_REQUESTS_PER_MINUTE = 600
_AZURE_VERSION = "2024-10-21"
GATEWAY_MODELS: Mapping[str, Sequence[tuple[str, str]]] = {
    "sim-embedding": [("simulator", "text-embedding-3-small")],
    "sim-azure": [("simulator-azure", "sim-ok")],
    "sim-anthropic": [("simulator-anthropic", "sim-ok")],
    "sim-responses": [("simulator-responses", "sim-ok")],
    "sim-fallback": [("simulator", "sim-refused"), ("simulator-azure", "sim-ok")],
}
"""Models of `dev` in addition to the simulator's own; the first route of sim-fallback always fails."""


@dataclass(frozen=True)
class Catalog:
    """The gateway's models and their routes.

    `providers` maps a provider's name to its section of the config file, without the credential, which all share.
    `models` maps a public name to its routes: each a provider and the model's name at that provider.
    """

    providers: Mapping[str, Mapping[str, str | bool]]
    models: Mapping[str, Sequence[tuple[str, str]]]
    default_model: str

    @property
    def addresses(self) -> list[str]:
        """The providers' URLs."""
        return [str(provider["base_url"]) for provider in self.providers.values()]

    def to_yaml(self) -> str:
        """Return the text of the gateway's config file."""
        config = {
            "providers": {
                name: {"wire_format": "openai", **provider, "api_key_secret": _KEY_SECRET}
                for name, provider in self.providers.items()
            },
            "models": {
                name: {"routes": [{"provider": provider, "model": model} for provider, model in routes]}
                for name, routes in self.models.items()
            },
            "rate_limits": {
                "rules": [
                    {
                        "name": "key-rpm",
                        "scope": "key",
                        "unit": "requests",
                        "limit": _REQUESTS_PER_MINUTE,
                        "window_seconds": 60,
                    }
                ]
            },
        }
        header = (
            "# Written by `flowbiz-platform dev` at every start; changes here are lost. To use your own\n"
            "# file, set PLATFORM_CONFIG_FILE to its path before starting.\n"
        )
        return header + yaml.safe_dump(config, sort_keys=False)


def simulator_catalog(base_url: str) -> Catalog:
    """Return every model of the simulator, and models that need a gateway: other wire formats, a fallback.

    (sim-refused stands for a dropped connection here, which is the same error for a caller. `check` would report a
    provider that refuses connections.)
    """
    origin = base_url.removesuffix("/v1")
    providers: dict[str, dict[str, str | bool]] = {
        "simulator": {"base_url": base_url},
        "simulator-azure": {"wire_format": "azure", "base_url": origin, "api_version": _AZURE_VERSION},
        "simulator-anthropic": {"wire_format": "anthropic", "base_url": f"{origin}/anthropic"},
        "simulator-responses": {"wire_format": "openai-responses", "base_url": base_url, "stores_responses": True},
    }
    return Catalog(providers, _straight(MODELS, "simulator") | dict(GATEWAY_MODELS), MODELS[0])


def custom_catalog(base_url: str) -> Catalog:
    """Return the simulator's model names, all routed to one address."""
    return Catalog({"custom": {"base_url": base_url}}, _straight(MODELS, "custom"), MODELS[0])


def openai_catalog(base_url: str) -> Catalog:
    """Return some of OpenAI's models."""
    return Catalog({"openai": {"base_url": base_url}}, _straight(_OPENAI_MODELS, "openai"), _OPENAI_MODELS[0])


def _straight(names: Iterable[str], provider: str) -> dict[str, Sequence[tuple[str, str]]]:
    """Return a route for each name to the same name at one provider."""
    return {name: [(provider, name)] for name in names}


def first_model(config_file: Path) -> str | None:
    """Return the first model of the user's config file, or None if the file cannot be read.

    The gateway reports what is wrong with such a file.
    """
    try:
        models = yaml.safe_load(config_file.read_text(encoding="utf-8"))["models"]
        return str(next(iter(models)))
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, StopIteration):
        return None


def real_openai_key(environ: Mapping[str, str]) -> bool:
    """Return whether the shell has a real OPENAI_API_KEY, and not the simulated one from a sourced dev.env."""
    key = environ.get(_KEY_SECRET, "")
    return bool(key) and not key.startswith(SIMULATED_KEY_PREFIX)


def new_simulated_key() -> str:
    """Return a key for the simulator, which accepts any. It has a key's form, so that masking shows in logs."""
    return SIMULATED_KEY_PREFIX + secrets.token_hex(16)


def read_env(path: Path) -> dict[str, str]:
    """Return the values of a `NAME=value` file as a shell would set them. Other lines are skipped."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    values = {}
    for line in text.splitlines():
        match = _ASSIGNMENT.fullmatch(line.strip())
        if match is None:
            continue
        try:
            words = shlex.split(match.group(2), comments=True)
        except ValueError:  # an open quote
            continue
        if len(words) <= 1:
            values[match.group(1)] = words[0] if words else ""
    return values


def write_env(path: Path, values: Mapping[str, str], comments: Iterable[str]) -> None:
    """Write a file that a shell can source. Only its owner can read it, also while it is written."""
    lines = [f"# {comment}" for comment in comments]
    lines += [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    replace_private(path, "\n".join(lines) + "\n")
