"""Secrets from the process's environment."""

from collections.abc import Mapping

from platform_app.errors import SecretNotFound
from platform_app.secret_store.base import Secret, SecretReference


class EnvSecretStore:
    """Read `name` as an environment variable, without surrounding white space."""

    scheme = "env"

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    async def get(self, name: str) -> Secret:
        """Return the secret; see SecretStore.get. Never raises SecretStoreUnavailable."""
        SecretReference.parse(name)
        value = self._environment.get(name, "").strip()
        if not value:
            raise SecretNotFound(f"the environment variable {name} is not set or empty; set it for this process")
        return Secret(name, value)

    async def aclose(self) -> None:
        """Do nothing: the environment needs no connection."""
