"""Secrets from the key-value store, version 2, of HashiCorp Vault or OpenBao."""

from typing import Any
from urllib.parse import quote

from platform_app.errors import SecretNotFound, SecretStoreUnavailable
from platform_app.secret_store.base import STORE_TIMEOUT_SECONDS, Secret, SecretReference, answer_within
from platform_app.secret_store.vault.http import VaultHttp
from platform_app.secret_store.vault.login import VaultLogin
from platform_app.secret_store.vault.token import VaultToken

DEFAULT_FIELD = "value"


class VaultSecretStore:
    """Read the name `a/b#field` at `<mount>/data/<prefix>/a/b`, field `field`; without `#` the field `value`.

    The first look-up logs in. A look-up that finds the token revoked logs in again.
    """

    scheme = "vault"

    def __init__(
        self,
        http: VaultHttp,
        login: VaultLogin,
        mount: str = "secret",
        prefix: str | None = None,
        timeout_seconds: float = STORE_TIMEOUT_SECONDS,
    ) -> None:
        self._http = http
        self._token = VaultToken(http, login)
        self._mount = mount.strip("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix else ""
        self._timeout = timeout_seconds

    async def get(self, name: str) -> Secret:
        """Return the secret; see SecretStore.get."""
        reference = SecretReference.parse(name)
        path = f"{self._mount}/data/{self._prefix}{reference.path}"
        async with answer_within(self._timeout, self.scheme):
            status, answer = await self._read(path)
        return Secret(name, self._value(path, reference.field or DEFAULT_FIELD, status, answer))

    async def aclose(self) -> None:
        """Revoke the token if a login created it, and close the connections."""
        await self._token.aclose()
        await self._http.aclose()

    async def _read(self, path: str) -> tuple[int, dict[str, Any]]:
        token = await self._token.current()
        status, answer = await self._http.send("GET", quote(path), token)
        if status == 403 and (token := await self._token.replacement(token) or ""):
            status, answer = await self._http.send("GET", quote(path), token)
        return status, answer

    def _value(self, path: str, field: str, status: int, answer: dict[str, Any]) -> str:
        if status == 403:
            raise SecretStoreUnavailable(
                f"Vault at {self._http.address} does not let us read {path} (403); its policy must allow read there"
            )
        data = answer.get("data")
        # A deleted version still has metadata. Other 404s are about the mount or the namespace, or not Vault's at all.
        if status == 404 and (answer.get("errors") == [] or isinstance(data, dict)):
            raise SecretNotFound(f"Vault has nothing at {path}; write it with the field '{field}'")
        if status != 200 or not isinstance(data, dict) or not isinstance(data.get("metadata"), dict):
            raise SecretStoreUnavailable(
                f"Vault at {self._http.address} responded with {status} to {path}; check PLATFORM_VAULT_NAMESPACE and "
                "PLATFORM_VAULT_MOUNT, which must be a key-value store of version 2"
            )
        value = (data.get("data") or {}).get(field)
        if not isinstance(value, str) or not value.strip():
            raise SecretNotFound(f"Vault has no text in the field '{field}' at {path}, or an empty one")
        return value.strip()
