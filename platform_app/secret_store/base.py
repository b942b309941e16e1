"""The interface of every secret store, the value that it returns, and the rules for names of secrets."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from platform_app.config import SECRET_NAME
from platform_app.errors import ConfigurationError, SecretNotFound, SecretStoreUnavailable

STORE_TIMEOUT_SECONDS = 4.0
"""The timeout of one look-up, including the login."""

_NAME = re.compile(SECRET_NAME)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret's value; its repr shows the name only."""

    name: str
    value: str = field(repr=False)


class SecretStore(Protocol):
    """Looks secrets up by name. Names come from operators only, never from a request."""

    scheme: str
    """The store's name in settings and messages: env, file, vault or aws."""

    async def get(self, name: str) -> Secret:
        """Return the secret of this name.

        Raises:
            SecretNotFound: the store holds no such secret, or it is empty.
            SecretStoreUnavailable: the store did not respond in time, or refuses the gateway's login.
        """
        ...

    async def aclose(self) -> None:
        """Release connections; called once, at the end."""
        ...


class RefreshableSecretStore(SecretStore, Protocol):
    """A store with a cache, whose value can be refreshed when a provider refuses it."""

    async def refresh(self, name: str, rejected: str) -> Secret:
        """Return the store's current value, after a provider refused the value `rejected`. The caller retries only if
        the returned value differs.

        Raises:
            SecretNotFound, SecretStoreUnavailable: as `get`.
        """
        ...


@dataclass(frozen=True, slots=True)
class SecretReference:
    """A parsed name: `payments/openai#key` is the field `key` of the secret at `payments/openai`."""

    path: str
    field: str | None = None

    @classmethod
    def parse(cls, name: str) -> "SecretReference":
        """Parse a name.

        Raises:
            SecretNotFound: no store can have such a name: it is absolute, contains `..`, or has characters with a
                meaning in paths and URLs.
        """
        path, _, its_field = name.partition("#")
        if not _NAME.fullmatch(name) or not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise SecretNotFound(f"{name!r} is not a name of a secret: letters, digits and _ . - in parts between /")
        return cls(path, its_field or None)


@asynccontextmanager
async def answer_within(seconds: float, scheme: str) -> AsyncIterator[None]:
    """Run the block with a timeout; raise SecretStoreUnavailable when it expires."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise SecretStoreUnavailable(f"the secret store '{scheme}' did not respond within {seconds:g} s") from None


def given(variable: str, value: T | None) -> T:
    """Return a setting that the chosen store needs, or raise ConfigurationError."""
    if value is None:
        raise ConfigurationError([f"{variable}: required by the secret store but not set"])
    return value
