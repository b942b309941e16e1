"""A time-bounded cache in front of a secret store: the request path does not wait for the store."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from platform_app.errors import SecretNotFound, SecretStoreUnavailable
from platform_app.secret_store.base import Secret, SecretStore

FETCH_TIMEOUT_SECONDS = 5.0
PROBE_SECONDS = 1.0
"""A store that is down is asked again at most this often."""


@dataclass(slots=True)
class _Entry:
    """What is known of one name."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    secret: Secret | None = None
    fetched_at: float = 0.0
    failure: str | None = None
    """Why the last try got no answer; None once it got one."""
    ask_again_at: float = 0.0


class CachedSecretStore:
    """Same interface as the store that it wraps; asks it again after `ttl_seconds`.

    While the store is down, the last good value serves until twice the TTL, and one request a second asks again:
    the others do not wait for it. The names are the operator's (one per provider and the pepper), so the cache is
    bounded by the configuration.
    """

    def __init__(self, store: SecretStore, ttl_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.scheme = store.scheme
        self._store = store
        self._ttl = ttl_seconds
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    async def get(self, name: str) -> Secret:
        """See SecretStore.get; answers from memory while the value is fresh."""
        entry = self._entries.setdefault(name, _Entry())
        secret = self._known(entry)
        if secret is not None:
            return secret
        async with entry.lock:
            # Another request may have fetched it, or failed to, while this one waited.
            return self._known(entry) or await self._fetch(name, entry)

    def _known(self, entry: _Entry) -> Secret | None:
        """The fresh value; while the store is down and it is not time to ask again, what to do without it."""
        now = self._clock()
        if entry.secret is not None and now - entry.fetched_at < self._ttl:
            return entry.secret
        if entry.failure is not None and now < entry.ask_again_at:
            return self._last_good(entry, entry.failure)
        return None

    async def _fetch(self, name: str, entry: _Entry) -> Secret:
        started = self._clock()
        entry.ask_again_at = started + FETCH_TIMEOUT_SECONDS  # of a store that is down: the others go on meanwhile
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                secret = await self._store.get(name)
        except SecretNotFound:  # an answer: the value that it had is good no longer
            entry.secret = entry.failure = None
            raise
        except SecretStoreUnavailable as error:
            why = str(error)
        except TimeoutError:
            why = f"the secret store '{self.scheme}' did not answer within {FETCH_TIMEOUT_SECONDS:g} s"
        else:
            entry.secret, entry.fetched_at, entry.failure = secret, started, None
            return secret
        entry.failure, entry.ask_again_at = why, self._clock() + PROBE_SECONDS
        return self._last_good(entry, why)

    def _last_good(self, entry: _Entry, why: str) -> Secret:
        if entry.secret is not None and self._clock() - entry.fetched_at < 2 * self._ttl:
            return entry.secret
        raise SecretStoreUnavailable(why)

    async def aclose(self) -> None:
        """Close the wrapped store."""
        await self._store.aclose()
