"""Open the limiter of a process: the one that all processes share, and the local one for outages of Redis."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from platform_app.config import Settings
from platform_app.observability.event_loop.background import run_until_closed
from platform_app.rate_limit.limiter import RateLimiter
from platform_app.rate_limit.limiters.cluster import ClusterLimiter
from platform_app.rate_limit.limiters.failover import FailoverLimiter
from platform_app.rate_limit.limiters.local import LocalLimiter
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.limiters.scripts import ALL as SCRIPTS
from platform_app.rate_limit.limiters.seeding import BudgetHistory, Seeder, StaleBudgets
from platform_app.redis.clients import make_script_client

LOAD_SCRIPTS_SECONDS = 1.0
"""How long the start waits for Redis; after that it continues without Redis."""


@asynccontextmanager
async def open_redis_limiter(
    settings: Settings, history: BudgetHistory | None = None, stale: StaleBudgets | None = None
) -> AsyncIterator[RateLimiter]:
    """Open the limiter that all processes share, with the task that renews the reservations of this process.

    Args:
        settings: where Redis is.
        history: returns what was spent of budgets whose counters are new; without it they start at zero.
        stale: the budgets whose counters must be initialized again.
    """
    async with AsyncExitStack() as stack:
        scripts = make_script_client(settings)
        stack.push_async_callback(scripts.aclose)
        await scripts.load_scripts(SCRIPTS, LOAD_SCRIPTS_SECONDS)
        seeder = Seeder(scripts, history, stale) if history is not None else None
        counting = RedisLimiter(scripts, by_hash_tag=settings.redis_cluster, seeder=seeder)
        run_until_closed(stack, counting.renew_reservations())
        stack.push_async_callback(counting.aclose)
        yield ClusterLimiter(counting) if settings.redis_cluster else counting


@asynccontextmanager
async def open_limiter(settings: Settings, history: BudgetHistory | None = None) -> AsyncIterator[FailoverLimiter]:
    """The limiter of a process: the shared one, and its own while that cannot be reached. `history`: see
    open_redis_limiter."""
    stale = StaleBudgets() if history is not None else None
    async with open_redis_limiter(settings, history, stale) as shared:
        local = LocalLimiter(processes=settings.replicas * settings.workers, stale=stale)
        limiter = FailoverLimiter(shared, local)
        try:
            yield limiter
        finally:
            await limiter.aclose()
