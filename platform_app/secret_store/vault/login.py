"""Login methods of Vault and OpenBao: an existing token, AppRole, Kubernetes."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from platform_app.errors import SecretStoreUnavailable
from platform_app.secret_store.usable import credential_problem, wrapping_problem
from platform_app.secret_store.vault.http import VaultHttp


@dataclass(frozen=True, slots=True)
class Lease:
    """A token and its lifetime."""

    token: str = field(repr=False)
    seconds: float
    """0: the token does not expire."""
    renewable: bool
    ours: bool
    """Whether this login created the token, so that closing the store revokes it."""


class VaultLogin(Protocol):
    """A login method."""

    @property
    def method(self) -> str:
        """The method's name in messages."""
        ...

    async def log_in(self, http: VaultHttp) -> Lease:
        """Return a valid token.

        Raises:
            SecretStoreUnavailable: the credential is refused or cannot be read, or Vault does not respond.
        """
        ...


@dataclass(frozen=True, slots=True)
class Credential:
    """A value from a setting, or from a file that is read again at each login."""

    variable: str
    """The setting to fix, for messages."""
    text: str | None = field(default=None, repr=False)
    file: Path | None = None

    async def read(self, problem_of: Callable[[str], str | None] = credential_problem) -> str:
        """Return the value without surrounding white space. `problem_of` says why a value cannot be used.

        Raises:
            SecretStoreUnavailable: the message names the setting and the file, and repeats no part of the value.
        """
        text = await self._written()
        if (problem := problem_of(text)) is not None:
            raise SecretStoreUnavailable(f"{self.variable}{f' ({self.file})' if self.file else ''} {problem}")
        return text

    async def _written(self) -> str:
        if self.file is None:
            return (self.text or "").strip()
        try:
            text = (await asyncio.to_thread(self.file.read_text, "utf-8")).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise SecretStoreUnavailable(f"{self.variable} ({self.file}) cannot be read: {why}") from None
        if not text:
            raise SecretStoreUnavailable(f"{self.variable} ({self.file}) is empty")
        return text


@dataclass(frozen=True, slots=True)
class TokenLogin:
    """An existing token, for example from the file of a Vault agent."""

    credential: Credential
    method: ClassVar[str] = "token"

    async def log_in(self, http: VaultHttp) -> Lease:
        """Return the token with the lifetime that Vault reports; see VaultLogin.log_in."""
        token = await self.credential.read()
        status, answer = await http.send("GET", "auth/token/lookup-self", token)
        if status != 200:
            raise SecretStoreUnavailable(
                f"Vault at {http.address} refuses the token ({status}); set a valid token in {self.credential.variable}"
            )
        about = answer.get("data") or {}
        return Lease(token, float(about.get("ttl") or 0), bool(about.get("renewable")), ours=False)


@dataclass(frozen=True, slots=True)
class AppRoleLogin:
    """A role id and a secret id."""

    mount: str
    role_id: str = field(repr=False)
    secret_id: Credential
    method: ClassVar[str] = "approle"

    async def log_in(self, http: VaultHttp) -> Lease:
        """See VaultLogin.log_in."""
        body = {"role_id": self.role_id, "secret_id": await self.secret_id.read(wrapping_problem)}
        hint = f"check PLATFORM_VAULT_ROLE_ID and {self.secret_id.variable}"
        return await _exchange(http, self.mount, body, hint)


@dataclass(frozen=True, slots=True)
class KubernetesLogin:
    """The token of the pod's service account, which the cluster replaces periodically."""

    mount: str
    role: str
    account_token: Credential
    method: ClassVar[str] = "kubernetes"

    async def log_in(self, http: VaultHttp) -> Lease:
        """See VaultLogin.log_in."""
        body = {"role": self.role, "jwt": await self.account_token.read()}
        hint = f"check that PLATFORM_VAULT_ROLE '{self.role}' is bound to this service account"
        return await _exchange(http, self.mount, body, hint)


async def _exchange(http: VaultHttp, mount: str, body: Mapping[str, str], hint: str) -> Lease:
    status, answer = await http.send("POST", f"auth/{mount}/login", body=body)
    granted: Any = answer.get("auth")
    if status != 200 or not isinstance(granted, dict) or not granted.get("client_token"):
        raise SecretStoreUnavailable(f"Vault at {http.address} refuses the login at auth/{mount} ({status}); {hint}")
    seconds, renewable = float(granted.get("lease_duration") or 0), bool(granted.get("renewable"))
    return Lease(str(granted["client_token"]), seconds, renewable, ours=True)
