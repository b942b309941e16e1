"""Create the secret store that the settings choose. No other store is read when it fails."""

from collections.abc import Mapping
from importlib import import_module

from platform_app.config import Settings, environment
from platform_app.secret_store.base import SecretStore, given
from platform_app.secret_store.env import EnvSecretStore
from platform_app.secret_store.file import FileSecretStore

LOCAL_REFRESH_SECONDS = 1.0
_AWS = "platform_app.secret_store.aws"
"""Imported by name, and only if it is chosen: its SDK costs a process 0.3 s at start and 10 MB."""
_VAULT = "platform_app.secret_store.vault.open"
"""As above: its HTTP client takes 2 MB."""


def configured_store(settings: Settings, variables: Mapping[str, str]) -> SecretStore:
    """Return the store that PLATFORM_SECRET_PROVIDER names. Opens no connection.

    Raises:
        ConfigurationError: a setting of the store cannot be used.
    """
    match settings.secret_provider:
        case "env":
            return EnvSecretStore(variables)
        case "file":
            return FileSecretStore(given("PLATFORM_SECRET_FILE_DIR", settings.secret_file_dir))
        case "vault":
            vault: SecretStore = import_module(_VAULT).open_store(settings)
            return vault
        case "aws":
            region = given("PLATFORM_AWS_REGION", settings.aws_region)
            store: SecretStore = import_module(_AWS).open_store(
                region, settings.aws_secret_prefix, settings.aws_endpoint_url
            )
            return store


def refresh_seconds(settings: Settings) -> float | None:
    """Return the seconds between look-ups, short for local stores; None for the cache's default."""
    return LOCAL_REFRESH_SECONDS if settings.secret_provider in ("env", "file") else None


def make_secret_store(settings: Settings) -> SecretStore:
    """The store that PLATFORM_SECRET_PROVIDER names, without a cache. Raises ConfigurationError."""
    return configured_store(settings, environment())
