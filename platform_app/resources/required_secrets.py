"""The secrets that this configuration cannot do without, and whether they can be had."""

import asyncio
from dataclasses import dataclass, replace

from platform_app.auth.authenticator import SecretPeppers
from platform_app.config import PlatformConfig, Settings
from platform_app.errors import SecretError
from platform_app.secret_store.base import SecretStore


@dataclass(frozen=True, slots=True)
class RequiredSecret:
    """Who needs which secret of which store. `str()` gives a line for people."""

    provider: str | None
    """The provider that needs it; None: the pepper of API keys."""
    name: str
    store: str
    problem: str | None = None
    """Why it cannot be had; None where it can."""

    def __str__(self) -> str:
        user = "API key pepper" if self.provider is None else f"provider '{self.provider}'"
        return f"{user}, secret '{self.name}', store '{self.store}': {self.problem or 'found'}"


async def look_up_required(settings: Settings, config: PlatformConfig, secrets: SecretStore) -> list[RequiredSecret]:
    """Look up the pepper, then every provider's credential, all at once. A provider without one needs nothing."""
    pepper = RequiredSecret(None, settings.api_key_pepper_secret_name, secrets.scheme)
    needed = [
        RequiredSecret(provider, name, secrets.scheme)
        for provider, name in provider_secrets(config).items()
        if name is not None
    ]
    return await asyncio.gather(_pepper(pepper, secrets), *(_credential(need, secrets) for need in needed))


def provider_secrets(config: PlatformConfig) -> dict[str, str | None]:
    """By provider: the name of its credential; None where it takes none."""
    return {name: provider.api_key_secret for name, provider in config.providers.items()}


async def _pepper(need: RequiredSecret, secrets: SecretStore) -> RequiredSecret:
    try:
        await SecretPeppers(secrets, need.name).current()
    except SecretError as error:
        return replace(need, problem=str(error))
    return need


async def _credential(need: RequiredSecret, secrets: SecretStore) -> RequiredSecret:
    try:
        await secrets.get(need.name)
    except SecretError as error:
        return replace(need, problem=str(error))
    return need
