"""The lookup of several keys, for key stores of tests."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from platform_app.auth.keys.records import StoredKey


class LooksUpOneByOne(ABC):
    """A key store whose `lookup_many` calls `lookup` for each key."""

    @abstractmethod
    async def lookup(self, key_id: str) -> StoredKey | None:
        """Return a key, or None."""

    async def lookup_many(self, key_ids: Sequence[str]) -> dict[str, StoredKey]:
        """Return the keys that exist."""
        return {key_id: found for key_id in key_ids if (found := await self.lookup(key_id)) is not None}
