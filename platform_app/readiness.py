"""Readiness: whether this process should receive traffic. It follows the failure policies, so a dependency that the
gateway can do without does not make it unready.

`/readyz` needs no key, so its cost is bounded: the result is cached for a second, and checks use a connection that no
request uses. They change nothing for requests.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from redis.asyncio import Redis
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from platform_app.config import Settings
from platform_app.db.failures import READ_ONLY, database_failure
from platform_app.db.revisions import database_state, head_revision, known_revisions
from platform_app.errors import LimiterUnavailable
from platform_app.idempotency.redis_store import RedisIdempotencyStore
from platform_app.ledger.interfaces import Ledger
from platform_app.rate_limit.limiters.failover import FailoverLimiter
from platform_app.rate_limit.matching import RuleBook
from platform_app.redis.failures import IDEMPOTENCY_SETTING, REDIS_ERRORS, redis_failure

CHECK_TIMEOUT_SECONDS = 1.0
CACHE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """The state of one dependency. `detail` is for people and contains neither an address nor a credential."""

    name: str
    ok: bool
    required: bool
    detail: str


@dataclass(frozen=True, slots=True)
class RedisPolicy:
    """Whether this process can serve requests without Redis."""

    rules: RuleBook
    limiter: FailoverLimiter | None = None
    """The limiter, which is also checked for writes: a server may respond and refuse them."""
    responses: RedisIdempotencyStore | None = None
    """Where requests with an Idempotency-Key are stored; None if the gateway accepts no keys."""


class ReadinessChecks(Protocol):
    """Anything that reports readiness."""

    async def checks(self) -> list[Check]:
        """Return the state of each dependency."""


class CachedReadiness:
    """Check at most once a second, and once for all concurrent callers."""

    def __init__(
        self,
        readiness: ReadinessChecks,
        seconds: float = CACHE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._readiness = readiness
        self._seconds = seconds
        self._clock = clock
        self._found: list[Check] = []
        self._found_at = float("-inf")
        self._running: asyncio.Task[list[Check]] | None = None

    async def checks(self) -> list[Check]:
        """Return the states, at most a second old; see Readiness.checks."""
        if self._clock() - self._found_at < self._seconds:
            return self._found
        if self._running is None:
            self._running = asyncio.create_task(self._find(), name="readiness")
        # A client's disconnect must not cancel the check for the others.
        return await asyncio.shield(self._running)

    async def aclose(self) -> None:
        """Cancel a running check."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _find(self) -> list[Check]:
        try:
            found = await self._readiness.checks()
            self._found, self._found_at = found, self._clock()
            return found
        finally:
            self._running = None


class Readiness:
    """Check the database, Redis and the store of idempotent requests, each within a second, and the ledger."""

    def __init__(
        self, engine: AsyncEngine, redis: "Redis", settings: Settings, ledger: Ledger, redis_policy: RedisPolicy
    ) -> None:
        self._redis_policy = redis_policy
        self._engine = engine
        self._redis = redis
        self._settings = settings
        self._ledger = ledger
        self._head = head_revision()
        self._known = known_revisions()

    async def checks(self) -> list[Check]:
        """Return the states of database, schema, Redis and ledger, which are checked concurrently.

        The database is not required while recently verified callers are still served (auth_stale_seconds > 0);
        otherwise every replica would leave the load balancer at once. Redis is required if a rule refuses requests
        without it; otherwise limits degrade.
        """
        database, redis, responses = await asyncio.gather(
            self._database(), self._check_redis(), self._check_idempotency()
        )
        return [*database, redis, *responses, self._check_ledger()]

    async def _database(self) -> list[Check]:
        required = self._settings.auth_stale_seconds == 0
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                state = await database_state(self._engine)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            return [Check("database", False, required, f"cannot be used: {database_failure(error)}")]
        if state.read_only:
            # Callers are found, so the process stays ready; usage and decisions wait in the spool.
            database = Check("database", False, False, f"nothing can be recorded: {READ_ONLY}")
        else:
            database = Check("database", True, required, "answers")
        return [database, self._schema(state.revision)]

    def _schema(self, revision: str | None) -> Check:
        """Pass at head or newer: the next version's migration must not make every old replica unready at once."""
        if revision == self._head:
            return Check("schema", True, True, "at head")
        if revision is not None and revision not in self._known:
            return Check("schema", True, True, f"at {revision}, newer than this version's {self._head}")
        return Check("schema", False, True, f"at {revision}, expected {self._head}; run: flowbiz-platform migrate up")

    def _check_ledger(self) -> Check:
        """Return the ledger's state. It is required, because an instance refuses the requests that it cannot record."""
        problem = self._ledger.problem()
        return Check("ledger", problem is None, True, problem or "records")

    async def _check_idempotency(self) -> list[Check]:
        """Check the connection that requests with an Idempotency-Key use. It is not required: requests without a key
        need it not, and all replicas would leave the load balancer at once."""
        store = self._redis_policy.responses
        if store is None:
            return []
        refuses = self._settings.idempotency_failure_policy == "refuse"
        without = "requests with an Idempotency-Key are " + ("refused" if refuses else "processed without protection")
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                await store.check()
        except REDIS_ERRORS as error:
            why = redis_failure(error, IDEMPOTENCY_SETTING)
            return [Check("idempotency", False, False, f"cannot store responses: {why}; {without}")]
        return [Check("idempotency", True, False, "stores responses")]

    async def _check_redis(self) -> Check:
        required, limiter = self._redis_policy.rules.needs_redis, self._redis_policy.limiter
        without = "a rule refuses requests without it" if required else "limits are per process"
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                await self._redis.ping()
                if limiter is not None:
                    await limiter.check()
        except LimiterUnavailable as error:
            why = redis_failure(error.__cause__ or error)
            return Check("redis", False, required, f"responds but does not count: {why}; {without}")
        except REDIS_ERRORS as error:
            return Check("redis", False, required, f"cannot be used: {redis_failure(error)}; {without}")
        return Check("redis", True, required, "answers")
