"""Create the Vault store from the settings."""

import ssl
from pathlib import Path

import httpx
from pydantic import SecretStr

from platform_app.config import Settings
from platform_app.errors import ConfigurationError
from platform_app.secret_store.base import given
from platform_app.secret_store.vault.http import VaultHttp
from platform_app.secret_store.vault.login import AppRoleLogin, Credential, KubernetesLogin, TokenLogin, VaultLogin
from platform_app.secret_store.vault.store import VaultSecretStore


def open_store(settings: Settings) -> VaultSecretStore:
    """Return the store. Opens no connection.

    Raises:
        ConfigurationError: a setting of the store cannot be used.
    """
    address = given("PLATFORM_VAULT_ADDR", settings.vault_addr)
    tls = _tls(settings.vault_ca_file)
    try:
        http = VaultHttp(address, settings.vault_namespace, tls)
    except httpx.InvalidURL:  # the client accepts fewer host names than Python's own codec
        raise ConfigurationError(["PLATFORM_VAULT_ADDR: the HTTP client does not accept this host name"]) from None
    return VaultSecretStore(http, _login(settings), settings.vault_mount, settings.vault_path_prefix)


def _login(settings: Settings) -> VaultLogin:
    mount = (settings.vault_auth_mount or settings.vault_auth).strip("/")
    match settings.vault_auth:
        case "token":
            return TokenLogin(_credential("PLATFORM_VAULT_TOKEN", settings.vault_token, settings.vault_token_file))
        case "approle":
            role_id = given("PLATFORM_VAULT_ROLE_ID", settings.vault_role_id).get_secret_value()
            secret_id = _credential("PLATFORM_VAULT_SECRET_ID", settings.vault_secret_id, settings.vault_secret_id_file)
            return AppRoleLogin(mount, role_id, secret_id)
        case "kubernetes":
            account = Credential("PLATFORM_VAULT_KUBERNETES_TOKEN_FILE", file=settings.vault_kubernetes_token_file)
            return KubernetesLogin(mount, given("PLATFORM_VAULT_ROLE", settings.vault_role), account)


def _credential(variable: str, text: SecretStr | None, file: Path | None) -> Credential:
    """Return the file if there is one, because it can change while the process runs; else the value."""
    if file is not None:
        return Credential(f"{variable}_FILE", file=file)
    return Credential(variable, given(variable, text).get_secret_value())


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context with the system's certificate authorities, or only those of the file."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # includes ssl.SSLError
        why = "not a PEM file of certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError([f"PLATFORM_VAULT_CA_FILE ({ca_file}): {why}; check the path"]) from None
