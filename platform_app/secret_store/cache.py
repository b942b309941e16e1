"""A cache in front of a secret store, so that requests do not wait for the store."""

import asyncio
import random
import time
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field

from platform_app.errors import SecretError, SecretNotFound, SecretStoreUnavailable
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger
from platform_app.observability.logs.known_secrets import hide_secret
from platform_app.secret_store.base import Secret, SecretStore, answer_within

FETCH_TIMEOUT_SECONDS = 5.0
"""Slightly above the stores' own timeout, so that their more precise message is reported."""
PROBE_SECONDS = 1.0
"""The shortest time between a failed look-up and the next one."""
REFETCH_SECONDS = 2.0
"""Refused credentials cause at most one look-up in this time."""
REFRESH_AT = 0.8
"""The share of the TTL after which a value is looked up again while it is still served."""

_log = get_logger("secrets")


class _Unusable(SecretNotFound):
    """The store has a value that cannot be used. Nothing outside this module distinguishes it from a missing one."""


@dataclass(slots=True)
class _Entry:
    """The cached state of one name."""

    secret: Secret | None = None
    fetched_at: float = 0.0
    refresh_at: float = 0.0
    failure: SecretError | None = None
    """Why the last look-up failed; None after a successful one."""
    refetch_at: float = 0.0
    """The time from which a refused credential causes another look-up."""
    fetching: asyncio.Task[None] | None = field(default=None, repr=False)
    """The running look-up. Every request that needs it waits for it, and none of them can cancel it."""


class CachedSecretStore:
    """A RefreshableSecretStore around another store.

    A value is looked up again in the background after `refresh_seconds`: by default 80 % of the TTL, less up to 10 % at
    random, so that processes do not all look up at once. It is served until it is twice the TTL old. So requests do not
    wait while the store responds, nor in the first minutes of an outage. A value that the store no longer has is
    dropped after two look-ups in a row without it, because files and paths may be missing while they are replaced. A
    value that cannot be used, such as half of a file, does not replace one that can.

    The names are the operator's (one per provider and the pepper), so the configuration bounds the cache and its
    tasks, one per name.
    """

    def __init__(
        self,
        store: SecretStore,
        ttl_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        refresh_seconds: float | None = None,
        problem_of: Callable[[str, str], str | None] = lambda _name, _value: None,
    ) -> None:
        """
        Args:
            store: where the values come from.
            ttl_seconds: the age of a value, of which the class's text says what depends on it.
            clock: the time in seconds.
            refresh_seconds: the age at which a value is looked up again, if that is earlier than the default.
            problem_of: returns why the value of this name cannot be used, or None.
        """
        self.scheme = store.scheme
        self._store = store
        self._ttl = ttl_seconds
        self._refresh_seconds = min(refresh_seconds or ttl_seconds, REFRESH_AT * ttl_seconds)
        self._clock = clock
        self._problem_of = problem_of
        self._entries: dict[str, _Entry] = {}

    async def get(self, name: str) -> Secret:
        """Return the secret; see SecretStore.get. Wait only if neither a value nor a failure of this name is cached."""
        entry = self._entries.get(name) or self._entries.setdefault(name, _Entry())
        self._fetch_if_due(name, entry)
        if entry.failure is None and entry.fetching is not None and not self._serves(entry):
            await asyncio.shield(entry.fetching)
        return self._known(entry)

    async def refresh(self, name: str, rejected: str) -> Secret:
        """Return the current value; see RefreshableSecretStore.refresh. Cause one look-up in REFETCH_SECONDS at
        most."""
        entry = self._entries.setdefault(name, _Entry())
        if entry.fetching is not None and _is(entry, rejected):
            await asyncio.shield(entry.fetching)
        # A running look-up may have been sent before the value changed, so another one follows it.
        if _is(entry, rejected) and entry.fetching is None and self._clock() >= entry.refetch_at:
            entry.refetch_at = self._clock() + REFETCH_SECONDS
            self._fetch(name, entry)
        if entry.fetching is not None and _is(entry, rejected):
            await asyncio.shield(entry.fetching)
        return await self.get(name)

    async def run(self) -> None:
        """Look values up again when they are due, whether or not a request needs them. Never returns."""
        while True:
            self.refresh_due()
            await asyncio.sleep(min(PROBE_SECONDS, self._refresh_seconds))

    def refresh_due(self) -> None:
        """Start the look-ups that are due, and set the metric of the oldest value."""
        now = self._clock()
        ages = [0.0]
        for name, entry in self._entries.items():
            self._fetch_if_due(name, entry)
            if entry.secret is not None:
                ages.append(now - entry.fetched_at)
        metrics.SECRET_AGE_SECONDS.set(max(ages))

    async def aclose(self) -> None:
        """Cancel running look-ups, then close the wrapped store."""
        running = [entry.fetching for entry in self._entries.values() if entry.fetching is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._store.aclose()

    def _serves(self, entry: _Entry) -> bool:
        return entry.secret is not None and self._clock() - entry.fetched_at < 2 * self._ttl

    def _known(self, entry: _Entry) -> Secret:
        if entry.secret is not None and self._serves(entry):
            return entry.secret
        if isinstance(entry.failure, SecretNotFound):
            raise SecretNotFound(*entry.failure.args)
        why = entry.failure.args if entry.failure else (f"the secret store '{self.scheme}' did not respond",)
        raise SecretStoreUnavailable(*why)

    def _fetch_if_due(self, name: str, entry: _Entry) -> None:
        if entry.fetching is None and self._clock() >= entry.refresh_at:
            self._fetch(name, entry)

    def _fetch(self, name: str, entry: _Entry) -> None:
        # In a separate context: the look-up does not belong to the request that started it.
        entry.fetching = asyncio.create_task(self._look_up(name, entry), context=Context())

    async def _look_up(self, name: str, entry: _Entry) -> None:
        """Run one look-up and store its result; never raises."""
        started = self._clock()
        try:
            async with answer_within(FETCH_TIMEOUT_SECONDS, self.scheme):
                secret = await self._store.get(name)
        except SecretError as error:
            self._failed(name, entry, error)
        except Exception as error:  # noqa: BLE001 - a store's bug must not end as a task whose failure is never reported
            _log.exception("secret_lookup_bug", store=self.scheme, secret=name)
            why = f"the secret store '{self.scheme}' failed ({type(error).__name__})"
            self._failed(name, entry, SecretStoreUnavailable(why))
        else:
            if (problem := self._problem_of(name, secret.value)) is None:
                self._succeeded(name, entry, secret, started)
            else:
                self._refused(name, entry, secret.value, problem, started)
        finally:
            entry.fetching = None
            metrics.SECRETS_STALE.set(sum(entry.failure is not None for entry in self._entries.values()))

    def _succeeded(self, name: str, entry: _Entry, secret: Secret, started: float) -> None:
        metrics.SECRET_LOOKUPS.labels(self.scheme, "found").inc()
        hide_secret(secret.value)
        if entry.failure is not None:
            _log.info("secret_refresh_recovered", store=self.scheme, secret=name)
        if entry.secret is not None and entry.secret.value != secret.value:
            _log.info("secret_changed", store=self.scheme, secret=name)
        entry.secret, entry.fetched_at, entry.failure = secret, started, None
        entry.refresh_at = started + self._refresh_seconds * random.uniform(0.9, 1.0)  # noqa: S311 - no secret

    def _refused(self, name: str, entry: _Entry, value: str, problem: str, started: float) -> None:
        """Keep the last value in use, without end: the store responds, and the operator has to correct the value."""
        metrics.SECRET_LOOKUPS.labels(self.scheme, "unusable").inc()
        hide_secret(value)
        if not isinstance(entry.failure, _Unusable) or entry.failure.args != (problem,):
            self._log_failure(name, entry, problem)
        entry.fetched_at, entry.failure = started, _Unusable(problem)
        entry.refresh_at = self._clock() + PROBE_SECONDS

    def _failed(self, name: str, entry: _Entry, error: SecretError) -> None:
        missing = isinstance(error, SecretNotFound)
        metrics.SECRET_LOOKUPS.labels(self.scheme, "missing" if missing else "unavailable").inc()
        if entry.failure is None or type(entry.failure) is not type(error):
            self._log_failure(name, entry, str(error))
        elif missing:
            entry.secret = None
        entry.failure = error
        entry.refresh_at = self._clock() + PROBE_SECONDS

    def _log_failure(self, name: str, entry: _Entry, why: str) -> None:
        serves = self._serves(entry)
        _log.warning("secret_refresh_failed", store=self.scheme, secret=name, why=why, last_value_serves=serves)


def _is(entry: _Entry, value: str) -> bool:
    return entry.secret is None or entry.secret.value == value
