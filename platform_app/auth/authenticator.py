"""Verify API keys: form and checksum, then the cache, then one statement in PostgreSQL."""

import asyncio
import hmac
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from platform_app.auth.cache import CachedKey, KeyCache
from platform_app.auth.caller import Caller
from platform_app.auth.keys.records import StoredKey, StoredSecret
from platform_app.auth.keys.store import DATABASE_ERRORS
from platform_app.auth.pepper import Peppers, parse_peppers
from platform_app.auth.throttle import FailureThrottle, NoThrottle
from platform_app.auth.throttled_lookups import LookupQueueFull, ThrottledLookups
from platform_app.auth.tokens import Token, parse_token
from platform_app.db.failures import database_failure
from platform_app.errors import AuthUnavailable, InvalidApiKey, RateLimited, SecretError
from platform_app.observability import metrics
from platform_app.observability.event_loop.own_stalls import finished_within
from platform_app.observability.logging import get_logger

PROBE_SECONDS = 1.0
"""Shortest time between two lookups while the database is down."""

NO_SECRET: Mapping[bytes, StoredSecret | None] = {bytes(32): None}
"""What a key is compared with if none of its secrets has the pepper's version: it takes the same time."""

T = TypeVar("T")

_log = get_logger("auth")


class KeyLookup(Protocol):
    """Finds stored keys; see KeyStore. Its methods raise DATABASE_ERRORS."""

    async def lookup(self, key_id: str) -> StoredKey | None:
        """Return the key and its secrets; None for an unknown id."""
        ...

    async def lookup_many(self, key_ids: Sequence[str]) -> Mapping[str, StoredKey]:
        """Return the keys that exist, by their ids, in one statement."""
        ...

    async def rehash(self, digest: bytes, new_digest: bytes, pepper_version: int) -> None:
        """Store a secret under a newer pepper."""
        ...


class PepperSource(Protocol):
    """Provides the live peppers."""

    async def current(self) -> Peppers:
        """Return the current peppers; raises SecretError."""
        ...


class SecretText(Protocol):
    """A secret as SecretPeppers needs it."""

    @property
    def value(self) -> str:
        """The secret's text."""
        ...


class SecretSource(Protocol):
    """Provides the pepper's text; every SecretStore does."""

    async def get(self, name: str) -> SecretText:
        """Return the secret with this name; raises SecretError."""
        ...


class SecretPeppers:
    """Reads peppers from a secret, and parses them again only when its text has changed."""

    def __init__(self, source: SecretSource, secret_name: str) -> None:
        self._source = source
        self._name = secret_name
        self._parsed: tuple[str, Peppers] | None = None

    async def current(self) -> Peppers:
        """See PepperSource."""
        text = (await self._source.get(self._name)).value
        if self._parsed is None or self._parsed[0] != text:
            self._parsed = text, parse_peppers(self._name, text)
        return self._parsed[1]


@dataclass(frozen=True, slots=True)
class AuthPolicy:
    """How long a verification is valid, in seconds."""

    ttl: float
    """Age at which a cached key is looked up again. It bounds how long a revoked key works if its event is lost."""
    stale: float
    """Age up to which a cached key is still accepted while the database is down."""
    lookup_timeout: float = 2.0
    """Timeout of a lookup for a key that is not cached, or not accepted without the database any more."""
    known_timeout: float = 0.25
    """Timeout of a lookup for a cached key. It is short: a frozen database must not slow down callers who are accepted
    without it."""


class Authenticator:
    """Verifies keys. Unknown, revoked and expired keys get the same error."""

    def __init__(
        self,
        keys: KeyLookup,
        peppers: PepperSource,
        cache: KeyCache,
        policy: AuthPolicy,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        throttle: FailureThrottle | None = None,
    ) -> None:
        self._throttle = throttle or NoThrottle()
        self._keys = keys
        self._throttled_lookups = ThrottledLookups(keys, policy.lookup_timeout)
        self._peppers = peppers
        self._cache = cache
        self._policy = policy
        self._clock = clock
        self._now = now
        self._inflight: dict[tuple[int, bytes], asyncio.Future[CachedKey]] = {}
        self._next_lookup_at: float | None = None
        """Before this time no lookup is made, because the database is down; None while it responds."""

    async def authenticate(self, text: str, address: str = "") -> Caller:
        """Return the caller of this key.

        Args:
            text: the key as the client sent it.
            address: the client's address, by which failures are counted.

        Raises:
            InvalidApiKey: the key is malformed (refused before any I/O), unknown, revoked or expired.
            RateLimited: the same, and this address sent too many such keys.
            AuthUnavailable: the database or the pepper is unavailable, and the key was not verified recently.
        """
        try:
            caller = await self._authenticate(text, address)
        except InvalidApiKey:
            await self._throttle.failed(address)
            raise
        except AuthUnavailable:
            metrics.AUTH.labels("unavailable").inc()
            raise
        return caller

    async def _authenticate(self, text: str, address: str) -> Caller:
        token = parse_token(text)
        if token is None:
            if (refusal := self._throttle.refusal(address)) is not None:
                raise _throttled(refusal)
            metrics.AUTH.labels("malformed").inc()
            raise InvalidApiKey
        try:
            peppers = await self._peppers.current()
        except SecretError:
            _log.exception("pepper_unavailable")
            raise _unavailable() from None
        digest = peppers.digest(token.text)
        assert digest is not None  # noqa: S101 - the current version is always live
        entry = self._cache.get(digest)
        refusal = None if entry is not None and entry.caller is not None else self._throttle.refusal(address)
        if entry is None or self._clock() - entry.verified_at >= self._policy.ttl:
            try:
                entry = await self._verify(token, digest, peppers, entry, throttled=refusal is not None)
            except LookupQueueFull:
                raise _unavailable() if refusal is None else _throttled(refusal) from None
        if entry.caller is None or (entry.not_after is not None and entry.not_after <= self._now()):
            if refusal is not None:
                raise _throttled(refusal)
            metrics.AUTH.labels("refused").inc()
            raise InvalidApiKey
        # An entry older than its TTL was returned because the database is down.
        fresh = self._clock() - entry.verified_at < max(self._policy.ttl, self._policy.lookup_timeout)
        metrics.AUTH.labels("accepted" if fresh else "stale").inc()
        return entry.caller

    async def _verify(
        self, token: Token, digest: bytes, peppers: Peppers, known: CachedKey | None, *, throttled: bool
    ) -> CachedKey:
        """Look the key up, once for all concurrent requests with it. Return `known` while the database is down.

        Raises:
            AuthUnavailable: the database is down, and `known` is None or too old.
            LookupQueueFull: too many keys of throttled addresses wait.
        """
        # A lookup that began before the last invalidation is not shared: it may have read an outdated key.
        lookup = self._cache.generation, digest
        if (waiting := self._inflight.get(lookup)) is not None:
            return await asyncio.shield(waiting)
        if self._next_lookup_at is not None:
            if self._clock() < self._next_lookup_at:
                return self._fall_back(known)
            self._next_lookup_at = self._clock() + PROBE_SECONDS  # other requests do not wait for this lookup
        future: asyncio.Future[CachedKey] = asyncio.get_running_loop().create_future()
        self._inflight[lookup] = future
        try:
            entry = await self._look_up(token, digest, peppers, known, throttled=throttled)
            future.set_result(entry)
            return entry
        finally:
            del self._inflight[lookup]
            if not future.done():  # the lookup failed or was cancelled; the requests that wait must not hang
                future.set_exception(_unavailable())
                future.exception()  # no other request may be waiting

    async def _look_up(
        self, token: Token, digest: bytes, peppers: Peppers, known: CachedKey | None, *, throttled: bool
    ) -> CachedKey:
        generation = self._cache.generation
        started = self._clock()
        try:
            if throttled:
                stored = await self._throttled_lookups.lookup(token.key_id)
            else:
                timeout = self._policy.known_timeout if self._may_fall_back(known) else self._policy.lookup_timeout
                stored = await _within(timeout, self._keys.lookup(token.key_id))
        except DATABASE_ERRORS as error:
            if self._next_lookup_at is None:
                _log.warning("auth_database_unavailable", error=str(database_failure(error)))
            self._next_lookup_at = self._clock() + PROBE_SECONDS
            return self._fall_back(known)
        if self._next_lookup_at is not None:
            self._next_lookup_at = None
            _log.warning("auth_database_recovered")
        metrics.AUTH_LOOKUP_SECONDS.observe(self._clock() - started)
        entry, matched = _judge(token, peppers, stored, self._clock())
        if matched is not None and matched.pepper_version != peppers.current:
            await self._rehash(matched, digest, peppers)
        if generation == self._cache.generation:
            self._cache.put(digest, entry)
        return entry

    async def _rehash(self, old: StoredSecret, digest: bytes, peppers: Peppers) -> None:
        """Store the secret under the current pepper: once per key and pepper rotation. If this fails, the key still
        works as long as the old pepper is live."""
        try:
            await self._keys.rehash(old.digest, digest, peppers.current)
        except DATABASE_ERRORS as error:
            _log.warning("rehash_failed", error=str(database_failure(error)))

    def _fall_back(self, known: CachedKey | None) -> CachedKey:
        if known is None or not self._may_fall_back(known):
            raise _unavailable()
        return known

    def _may_fall_back(self, known: CachedKey | None) -> bool:
        """Return whether the key is accepted while the database is down."""
        return known is not None and self._clock() - known.verified_at < self._policy.stale


def _judge(
    token: Token, peppers: Peppers, stored: StoredKey | None, verified_at: float
) -> tuple[CachedKey, StoredSecret | None]:
    """Compare in constant time: an unknown id takes as many HMACs and comparisons as a known one with one secret.

    Returns:
        The entry to cache, and the secret that matched; None if the key is refused.
    """
    secrets = stored.secrets if stored is not None else ()
    matched = None
    for version in peppers.by_version:
        candidate = peppers.digest(token.text, version) or b""
        ours = {secret.digest: secret for secret in secrets if secret.pepper_version == version}
        for digest, secret in (ours or NO_SECRET).items():
            if hmac.compare_digest(candidate, digest):
                matched = secret
    if stored is None or matched is None or stored.record.revoked_at is not None:
        return CachedKey(None, token.key_id, None, verified_at), None
    record = stored.record
    caller = Caller(
        key_id=record.key_id,
        name=record.name,
        owner=record.owner,
        environment=record.environment,
        scopes=frozenset(record.scopes),
        allowed_models=None if record.allowed_models is None else frozenset(record.allowed_models),
        expires_at=record.expires_at,
        limits=record.limits or {},
        secret_created_at=matched.created_at,
    )
    ends = [end for end in (record.expires_at, matched.not_after) if end is not None]
    return CachedKey(caller, record.key_id, min(ends, default=None), verified_at), matched


async def _within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`, or raise TimeoutError in time. Time in which this process itself stalled does not
    count.

    asyncio.timeout would cancel `work` and wait for the cancellation. SQLAlchemy then closes the connection with a
    handshake, which takes seconds if the server is frozen. So `work` is left to end by itself; the connection pool
    bounds how many such lookups there are.
    """
    task = asyncio.ensure_future(work)
    if await finished_within(task, seconds):
        return task.result()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    raise TimeoutError


def _unavailable() -> AuthUnavailable:
    return AuthUnavailable("API keys cannot be verified right now. Try again shortly.", retry_after=PROBE_SECONDS)


def _throttled(refusal: RateLimited) -> RateLimited:
    metrics.AUTH_THROTTLED.inc()
    return refusal
