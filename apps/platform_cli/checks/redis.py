"""Check what Redis does when its memory is full."""

from collections.abc import AsyncIterator

from platform_app.config import Settings
from platform_app.readiness import Check
from platform_app.redis.clients import make_redis
from platform_app.redis.failures import REDIS_ERRORS, error_code, redis_failure

KEEPS_ALL = "noeviction"


async def redis_checks(settings: Settings) -> AsyncIterator[Check]:
    """Yield the checks that readiness does not make. A server that evicts keys loses counters and stored responses."""
    yield await _eviction("redis memory", settings, "eviction of a counter resets its limit")
    if settings.idempotency_redis_url is not None:
        own = settings.model_copy(
            update={"redis_url": settings.idempotency_redis_url, "redis_cluster": settings.idempotency_redis_cluster}
        )
        yield await _eviction("idempotency redis", own, "eviction of a stored response lets its request run twice")


async def _eviction(name: str, settings: Settings, why: str) -> Check:
    redis = make_redis(settings)
    try:
        found = await redis.info("memory")
    except REDIS_ERRORS as error:
        needs = " (the user needs +info)" if error_code(error) == "NOPERM" else ""
        return Check(name, False, False, f"INFO memory failed: {redis_failure(error).cause}{needs}")
    finally:
        await redis.aclose()
    nodes = [found] if "maxmemory" in found else list(found.values())
    evicting = {node.get("maxmemory_policy") for node in nodes if node.get("maxmemory")} - {KEEPS_ALL}
    if evicting:
        policies = ", ".join(sorted(map(str, evicting)))
        return Check(name, False, True, f"maxmemory-policy is {policies}; set noeviction: {why}")
    if not all(node.get("maxmemory") for node in nodes):
        return Check(name, True, False, "no maxmemory: only their quotas bound stored responses")
    return Check(name, True, True, KEEPS_ALL)
