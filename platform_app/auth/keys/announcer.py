"""Telling every process that a key changed."""

from typing import Protocol


class KeyAnnouncer(Protocol):
    """Spreads the word; a word that is lost costs the cache's TTL, so it never fails."""

    async def changed(self, key_id: str) -> None:
        """This key was changed, and the change is committed."""
        ...


class SilentAnnouncer:
    """For where nobody listens: tests, and a command line without Redis."""

    async def changed(self, key_id: str) -> None:
        """Does nothing."""
