"""Create the secret store that the settings choose. No other store is read when it fails."""

import ssl
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from platform_app.config import Settings
from platform_app.errors import ConfigurationError
from platform_app.secret_store.base import SecretStore
from platform_app.secret_store.env import EnvSecretStore
from platform_app.secret_store.file import FileSecretStore
from platform_app.secret_store.vault.http import VaultHttp
from platform_app.secret_store.vault.login import AppRoleLogin, Credential, KubernetesLogin, TokenLogin, VaultLogin
from platform_app.secret_store.vault.store import VaultSecretStore

LOCAL_REFRESH_SECONDS = 1.0
_AWS = "platform_app.secret_store.aws"
"""Imported by name, and only if it is chosen: its SDK costs a process 0.3 s at start and 10 MB."""

T = TypeVar("T")


def configured_store(settings: Settings, environment: Mapping[str, str]) -> SecretStore:
    """Return the store that PLATFORM_SECRET_PROVIDER names. Opens no connection.

    Raises:
        ConfigurationError: a setting of the store cannot be used.
    """
    match settings.secret_provider:
        case "env":
            return EnvSecretStore(environment)
        case "file":
            return FileSecretStore(_given("PLATFORM_SECRET_FILE_DIR", settings.secret_file_dir))
        case "vault":
            return _vault(settings)
        case "aws":
            region = _given("PLATFORM_AWS_REGION", settings.aws_region)
            store: SecretStore = import_module(_AWS).open_store(
                region, settings.aws_secret_prefix, settings.aws_endpoint_url
            )
            return store


def refresh_seconds(settings: Settings) -> float | None:
    """Return the seconds between look-ups, short for local stores; None for the cache's default."""
    return LOCAL_REFRESH_SECONDS if settings.secret_provider in ("env", "file") else None


def _vault(settings: Settings) -> VaultSecretStore:
    address = _given("PLATFORM_VAULT_ADDR", settings.vault_addr)
    http = VaultHttp(address, settings.vault_namespace, _tls(settings.vault_ca_file))
    return VaultSecretStore(http, _login(settings), settings.vault_mount, settings.vault_path_prefix)


def _login(settings: Settings) -> VaultLogin:
    mount = (settings.vault_auth_mount or settings.vault_auth).strip("/")
    match settings.vault_auth:
        case "token":
            return TokenLogin(_credential("PLATFORM_VAULT_TOKEN", settings.vault_token, settings.vault_token_file))
        case "approle":
            role_id = _given("PLATFORM_VAULT_ROLE_ID", settings.vault_role_id).get_secret_value()
            secret_id = _credential("PLATFORM_VAULT_SECRET_ID", settings.vault_secret_id, settings.vault_secret_id_file)
            return AppRoleLogin(mount, role_id, secret_id)
        case "kubernetes":
            account = Credential("PLATFORM_VAULT_KUBERNETES_TOKEN_FILE", file=settings.vault_kubernetes_token_file)
            return KubernetesLogin(mount, _given("PLATFORM_VAULT_ROLE", settings.vault_role), account)


def _credential(variable: str, text: SecretStr | None, file: Path | None) -> Credential:
    """Return the file if there is one, because it can change while the process runs; else the value."""
    if file is not None:
        return Credential(f"{variable}_FILE", file=file)
    return Credential(variable, _given(variable, text).get_secret_value())


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context with the system's certificate authorities, or only those of the file."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # includes ssl.SSLError
        why = "not a PEM file of certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError([f"PLATFORM_VAULT_CA_FILE ({ca_file}): {why}; check the path"]) from None


def _given(variable: str, value: T | None) -> T:
    if value is None:
        raise ConfigurationError([f"{variable}: required by the secret store but not set"])
    return value
