"""The interface of every secret store, and the value that it gives out."""

from dataclasses import dataclass, field
from typing import Protocol


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
            SecretStoreUnavailable: the store did not answer in time.
        """
        ...

    async def aclose(self) -> None:
        """Release connections; called once, at the end."""
        ...
