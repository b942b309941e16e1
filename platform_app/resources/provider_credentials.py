"""Providers' credentials out of the secret store, in the words that upstreams and callers understand."""

from collections.abc import Awaitable

from platform_app.errors import ProviderNotConfigured, SecretError
from platform_app.observability.logging import get_logger
from platform_app.secret_store.base import RefreshableSecretStore, Secret

_log = get_logger("chat")


class StoredCredentials:
    """Credentials from the secret store. The log has the reason of a failure; the client is sent to the operator."""

    def __init__(self, secrets: RefreshableSecretStore) -> None:
        self._secrets = secrets

    async def get(self, name: str) -> str:
        """See Credentials.get."""
        return await self._value(name, self._secrets.get(name))

    async def refresh(self, name: str, rejected: str) -> str:
        """See Credentials.refresh."""
        return await self._value(name, self._secrets.refresh(name, rejected))

    async def _value(self, name: str, secret: Awaitable[Secret]) -> str:
        try:
            return (await secret).value
        except SecretError as error:
            _log.error("provider_secret_unavailable", secret=name, why=str(error))
            raise ProviderNotConfigured(
                "The provider of this model has no usable credential. Contact your platform operator."
            ) from None
