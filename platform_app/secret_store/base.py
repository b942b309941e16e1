"""The interface of every secret store, the value that it gives out, and what all stores hold names to."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from platform_app.config import SECRET_NAME
from platform_app.errors import SecretNotFound, SecretStoreUnavailable

STORE_TIMEOUT_SECONDS = 4.0
"""How long one look-up may take, logging in included."""

_NAME = re.compile(SECRET_NAME)


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret's value; its repr shows the name only."""

    name: str
    value: str = field(repr=False)


class SecretStore(Protocol):
    """Looks secrets up by name. Names come from operators only, never from a request."""

    scheme: str
    """What the store is called in settings and messages: env, file, vault or aws."""

    async def get(self, name: str) -> Secret:
        """The secret of this name.

        Raises:
            SecretNotFound: the store holds no such secret, or it is empty.
            SecretStoreUnavailable: the store did not answer in time, or refuses us.
        """
        ...

    async def aclose(self) -> None:
        """Release connections; called once, at the end."""
        ...


class RefreshableSecretStore(SecretStore, Protocol):
    """A store that remembers, and can be told that what it remembers no longer works."""

    async def refresh(self, name: str, rejected: str) -> Secret:
        """The secret of now, after somebody refused the value `rejected`. Whoever asks tries again only where the
        answer is another value.

        Raises:
            SecretNotFound, SecretStoreUnavailable: as `get`.
        """
        ...


@dataclass(frozen=True, slots=True)
class SecretReference:
    """A name taken apart: `payments/openai#key` is the field `key` of what is at `payments/openai`."""

    path: str
    field: str | None = None

    @classmethod
    def parse(cls, name: str) -> "SecretReference":
        """Take a name apart.

        Raises:
            SecretNotFound: no store can hold such a name: it is absolute, leads out of its place (`..`), or has
                characters that mean something to paths and URLs.
        """
        path, _, its_field = name.partition("#")
        if not _NAME.fullmatch(name) or not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise SecretNotFound(f"{name!r} is not a name of a secret: letters, digits and _ . - in parts between /")
        return cls(path, its_field or None)


@asynccontextmanager
async def answer_within(seconds: float, scheme: str) -> AsyncIterator[None]:
    """A deadline for the block; raises SecretStoreUnavailable where it passes."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise SecretStoreUnavailable(f"the secret store '{scheme}' did not answer within {seconds:g} s") from None
