"""Secrets from the process's own environment."""

from collections.abc import Mapping

from platform_app.errors import SecretNotFound
from platform_app.secret_store.base import Secret, SecretReference


class EnvSecretStore:
    """Reads `name` as an environment variable; surrounding white space is not part of a secret."""

    scheme = "env"

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    async def get(self, name: str) -> Secret:
        """See SecretStore.get; never unavailable."""
        SecretReference.parse(name)
        value = self._environment.get(name, "").strip()
        if not value:
            raise SecretNotFound(f"the environment variable {name} is not set or empty; set it for this process")
        return Secret(name, value)

    async def aclose(self) -> None:
        """Nothing to release."""
