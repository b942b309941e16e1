"""A time-bounded cache in front of a secret store: the request path does not wait for the store."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from platform_app.errors import SecretStoreUnavailable
from platform_app.secret_store.base import Secret, SecretStore

FETCH_TIMEOUT_SECONDS = 5.0


@dataclass(slots=True)
class _Entry:
    secret: Secret
    fetched_at: float


class CachedSecretStore:
    """Same interface as the store that it wraps; asks it again after `ttl_seconds`.

    While the store is down, the last good value serves until twice the TTL. The names are the operator's
    (one per provider and the pepper), so the cache is bounded by the configuration.
    """

    def __init__(self, store: SecretStore, ttl_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.scheme = store.scheme
        self._store = store
        self._ttl = ttl_seconds
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, name: str) -> Secret:
        """See SecretStore.get; answers from memory while the value is fresh."""
        entry = self._entries.get(name)
        if entry is not None and self._clock() - entry.fetched_at < self._ttl:
            return entry.secret
        return await self._refresh(name)

    async def _refresh(self, name: str) -> Secret:
        async with self._locks.setdefault(name, asyncio.Lock()):
            entry = self._entries.get(name)
            now = self._clock()
            if entry is not None and now - entry.fetched_at < self._ttl:
                return entry.secret  # another request fetched it while this one waited
            try:
                async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                    secret = await self._store.get(name)
            except (SecretStoreUnavailable, TimeoutError) as error:
                if entry is not None and now - entry.fetched_at < 2 * self._ttl:
                    return entry.secret
                if isinstance(error, TimeoutError):
                    raise SecretStoreUnavailable(
                        f"the secret store '{self.scheme}' did not answer within {FETCH_TIMEOUT_SECONDS:g} s"
                    ) from None
                raise
            self._entries[name] = _Entry(secret, now)
            return secret

    async def aclose(self) -> None:
        """Close the wrapped store."""
        await self._store.aclose()
