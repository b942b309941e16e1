"""From the text of a key to a verified caller: checksum, cache, else one statement in PostgreSQL."""

import asyncio
import hmac
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from platform_app.auth.cache import CachedKey, KeyCache
from platform_app.auth.caller import Caller
from platform_app.auth.keys.records import StoredKey, StoredSecret
from platform_app.auth.keys.store import DATABASE_ERRORS
from platform_app.auth.pepper import Peppers, parse_peppers
from platform_app.auth.throttle import FailureThrottle, NoThrottle
from platform_app.auth.tokens import Token, parse_token
from platform_app.errors import AuthUnavailable, InvalidApiKey, SecretError
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger
from platform_app.observability.own_stalls import finished_within

PROBE_SECONDS = 1.0
"""While the database is down, it is asked again at most this often."""

T = TypeVar("T")

_log = get_logger("auth")


class KeyLookup(Protocol):
    """Where keys are kept; see KeyStore. Its methods raise DATABASE_ERRORS."""

    async def lookup(self, key_id: str) -> StoredKey | None:
        """The key and its secrets, None for an unknown id."""
        ...

    async def rehash(self, digest: bytes, new_digest: bytes, pepper_version: int) -> None:
        """Store a secret under a newer pepper."""
        ...


class PepperSource(Protocol):
    """Gives the live peppers."""

    async def current(self) -> Peppers:
        """The peppers of now; raises SecretError."""
        ...


class SecretText(Protocol):
    """A secret as the pepper needs it."""

    @property
    def value(self) -> str:
        """The text itself."""
        ...


class SecretSource(Protocol):
    """Where the pepper's text comes from; every SecretStore is one."""

    async def get(self, name: str) -> SecretText:
        """The secret of this name; raises SecretError."""
        ...


class SecretPeppers:
    """Peppers from a secret; parsed again only when its text changes."""

    def __init__(self, source: SecretSource, secret_name: str) -> None:
        self._source = source
        self._name = secret_name
        self._text = ""
        self._peppers: Peppers | None = None

    async def current(self) -> Peppers:
        """See PepperSource."""
        text = (await self._source.get(self._name)).value
        if self._peppers is None or text != self._text:
            self._peppers, self._text = parse_peppers(self._name, text), text
        return self._peppers


@dataclass(frozen=True, slots=True)
class AuthPolicy:
    """How long an outcome counts, in seconds."""

    ttl: float
    """Without a word from elsewhere, a revocation is noticed after at most this."""
    stale: float
    """While the database is down, a caller that was verified this recently goes on."""
    lookup_timeout: float = 2.0
    """How long a look-up may take for a caller of whom nothing is known."""
    known_timeout: float = 0.25
    """How long for one who could go on without it: a frozen database must not slow known callers down."""


class Authenticator:
    """Verifies keys. Unknown, revoked and expired keys get one and the same error."""

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
        self._peppers = peppers
        self._cache = cache
        self._policy = policy
        self._clock = clock
        self._now = now
        self._inflight: dict[tuple[int, bytes], asyncio.Future[CachedKey]] = {}
        self._database_down = False
        self._ask_again_at = 0.0

    async def authenticate(self, text: str, address: str = "") -> Caller:
        """The caller that this key belongs to. `address` is the client's, for counting its failures.

        Raises:
            InvalidApiKey: malformed (refused before any I/O), unknown, revoked or expired.
            RateLimited: too many of those came from this address.
            AuthUnavailable: the database or the pepper cannot be had, and nothing recent is known of the key.
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
            self._throttle.check(address)
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
        if entry is None or entry.caller is None:
            self._throttle.check(address)
        if entry is None or self._clock() - entry.verified_at >= self._policy.ttl:
            entry = await self._verify(token, digest, peppers, entry)
        if entry.caller is None or (entry.not_after is not None and entry.not_after <= self._now()):
            metrics.AUTH.labels("refused").inc()
            raise InvalidApiKey
        # An entry older than its TTL was given out because the database is down.
        fresh = self._clock() - entry.verified_at < max(self._policy.ttl, self._policy.lookup_timeout)
        metrics.AUTH.labels("accepted" if fresh else "stale").inc()
        return entry.caller

    async def _verify(self, token: Token, digest: bytes, peppers: Peppers, known: CachedKey | None) -> CachedKey:
        """Ask the database, once for all requests that wait for the same key; else fall back on `known`."""
        # Not one that began before the last invalidation: it may have read what is no longer true.
        asked = self._cache.generation, digest
        if (waiting := self._inflight.get(asked)) is not None:
            return await asyncio.shield(waiting)
        if self._database_down:
            if self._clock() < self._ask_again_at:
                return self._fall_back(known)
            self._ask_again_at = self._clock() + PROBE_SECONDS  # the others go on while this one asks
        future: asyncio.Future[CachedKey] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_consume)  # nobody may be waiting
        self._inflight[asked] = future
        try:
            entry = await self._ask(token, digest, peppers, known)
            future.set_result(entry)
            return entry
        except AuthUnavailable as error:
            future.set_exception(error)
            raise
        finally:
            del self._inflight[asked]
            if not future.done():  # this request was cancelled; those that wait must not hang
                future.set_exception(_unavailable())

    async def _ask(self, token: Token, digest: bytes, peppers: Peppers, known: CachedKey | None) -> CachedKey:
        generation = self._cache.generation
        started = self._clock()
        try:
            patience = self._policy.lookup_timeout if known is None else self._policy.known_timeout
            stored = await _within(patience, self._keys.lookup(token.key_id))
        except DATABASE_ERRORS as error:
            if not self._database_down:
                self._database_down = True
                _log.warning("auth_database_unavailable", error=type(error).__name__)
            self._ask_again_at = self._clock() + PROBE_SECONDS
            return self._fall_back(known)
        if self._database_down:
            self._database_down = False
            _log.warning("auth_database_recovered")
        metrics.AUTH_LOOKUP_SECONDS.observe(self._clock() - started)
        entry, matched = _judge(token, peppers, stored, self._clock())
        if matched is not None and matched.pepper_version != peppers.current:
            await self._rehash(matched, digest, peppers)
        if generation == self._cache.generation:
            self._cache.put(digest, entry)
        return entry

    async def _rehash(self, old: StoredSecret, digest: bytes, peppers: Peppers) -> None:
        """Once per key and rotation of the pepper; the key works without it as long as the old pepper is live."""
        try:
            await self._keys.rehash(old.digest, digest, peppers.current)
        except DATABASE_ERRORS as error:
            _log.warning("rehash_failed", error=type(error).__name__)

    def _fall_back(self, known: CachedKey | None) -> CachedKey:
        if known is None or self._clock() - known.verified_at >= self._policy.stale:
            raise _unavailable()
        return known


def _judge(
    token: Token, peppers: Peppers, stored: StoredKey | None, verified_at: float
) -> tuple[CachedKey, StoredSecret | None]:
    """Compare in constant time; an unknown id costs the same HMACs and compares as a known one. Also gives the secret
    that matched, None where the key is refused."""
    secrets = stored.secrets if stored is not None else ()
    matched = None
    for version in peppers.by_version:
        candidate = peppers.digest(token.text, version) or b""
        hmac.compare_digest(candidate, bytes(32))
        for secret in secrets:
            if secret.pepper_version == version and hmac.compare_digest(candidate, secret.digest):
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
    """The result of `work`, or TimeoutError, on time; time in which this process was held up itself does not count.

    asyncio.timeout would cancel `work` and wait for that: SQLAlchemy then closes the connection politely, which takes
    seconds where the server is frozen. So it is left to end by itself; the pool bounds how many can.
    """
    task = asyncio.ensure_future(work)
    if await finished_within(task, seconds):
        return task.result()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    raise TimeoutError


def _unavailable() -> AuthUnavailable:
    return AuthUnavailable(
        "API keys cannot be verified right now. Try again shortly.", retry_after=max(1.0, PROBE_SECONDS)
    )


def _consume(future: asyncio.Future[CachedKey]) -> None:
    if not future.cancelled():
        future.exception()
