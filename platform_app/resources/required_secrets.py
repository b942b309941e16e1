"""The secrets that this configuration cannot do without, and whether they can be had."""

import asyncio
import time
from dataclasses import dataclass, replace

from platform_app.auth.pepper import parse_peppers
from platform_app.config import PlatformConfig, Settings
from platform_app.errors import SecretError, SecretStoreUnavailable, TemporaryProblem
from platform_app.observability.logging import get_logger
from platform_app.secret_store.base import SecretStore
from platform_app.secret_store.usable import credential_problem, wrapping_problem

RETRY_SECONDS = 1.0
"""The pause before a secret store that did not respond is called again."""
_LOCAL_STORES = ("env", "file")

_log = get_logger("resources")


@dataclass(frozen=True, slots=True)
class RequiredSecret:
    """Who needs which secret of which store. `str()` gives a line for people."""

    provider: str | None
    """The provider that needs it; None: the pepper of API keys."""
    name: str
    store: str
    problem: str | None = None
    """Why it cannot be had; None where it can."""
    temporary: bool = False
    """Whether the store did not respond, so that another look-up may find the secret."""

    def __str__(self) -> str:
        user = "API key pepper" if self.provider is None else f"provider '{self.provider}'"
        return f"{user}, secret '{self.name}', store '{self.store}': {self.problem or 'found'}"

    def as_problem(self) -> str:
        """Return the line, as a TemporaryProblem if a server did not respond. A file has to be corrected."""
        return TemporaryProblem(self) if self.temporary and self.store not in _LOCAL_STORES else str(self)


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
        secret = await secrets.get(need.name)
    except SecretError as error:
        return replace(need, problem=str(error), temporary=isinstance(error, SecretStoreUnavailable))
    return replace(need, problem=pepper_problem(need.name, secret.value))


async def _credential(need: RequiredSecret, secrets: SecretStore) -> RequiredSecret:
    try:
        secret = await secrets.get(need.name)
    except SecretError as error:
        return replace(need, problem=str(error), temporary=isinstance(error, SecretStoreUnavailable))
    return replace(need, problem=credential_problem(secret.value))


def pepper_problem(name: str, value: str) -> str | None:
    """Return why the secret of this name is not a list of peppers; None if it is."""
    if (problem := wrapping_problem(value)) is not None:
        return problem
    try:
        parse_peppers(name, value)
    except SecretError as error:
        return str(error)
    return None


async def secret_problems(
    settings: Settings, config: PlatformConfig, secrets: SecretStore, wait_seconds: float = 0.0
) -> list[str]:
    """Look up the pepper and every provider's credential. Return one line for each that cannot be read, a
    TemporaryProblem if a server does not respond; a store that does not is asked again for `wait_seconds`."""
    deadline = time.monotonic() + wait_seconds
    waiting = False
    while True:
        missing = [need for need in await look_up_required(settings, config, secrets) if need.problem]
        if not any(need.temporary for need in missing) or time.monotonic() >= deadline:
            return [need.as_problem() for need in missing]
        if not waiting:
            waiting = True
            _log.warning(
                "dependency_awaited", dependency="secret store", reason=missing[0].problem, seconds=wait_seconds
            )
        await asyncio.sleep(RETRY_SECONDS)
