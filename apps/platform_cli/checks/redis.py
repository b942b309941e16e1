"""Lines of `flowbiz-platform check` about Redis: what a server does when its memory is full."""

from collections.abc import AsyncIterator

from redis.exceptions import RedisError

from platform_app.config import Settings
from platform_app.readiness import Check
from platform_app.resources import make_redis

KEEPS_ALL = "noeviction"


async def redis_checks(settings: Settings) -> AsyncIterator[Check]:
    """What is not asked by the readiness of a gateway. A server that evicts forgets limits and kept responses."""
    yield await _eviction("redis memory", settings, "an evicted counter is a limit that starts anew")
    if settings.idempotency_redis_url is not None:
        own = settings.model_copy(
            update={"redis_url": settings.idempotency_redis_url, "redis_cluster": settings.idempotency_redis_cluster}
        )
        yield await _eviction("idempotency redis", own, "an evicted response is work that can be done twice")


async def _eviction(name: str, settings: Settings, why: str) -> Check:
    redis = make_redis(settings)
    try:
        found = await redis.info("memory")
    except (RedisError, OSError, TimeoutError) as error:
        return Check(name, False, False, f"cannot be asked for its memory ({type(error).__name__}); needs +info")
    finally:
        await redis.aclose()
    nodes = [found] if "maxmemory" in found else list(found.values())
    evicting = {node.get("maxmemory_policy") for node in nodes if node.get("maxmemory")} - {KEEPS_ALL}
    if evicting:
        policies = ", ".join(sorted(map(str, evicting)))
        return Check(name, False, True, f"maxmemory-policy is {policies}; set noeviction: {why}")
    if not all(node.get("maxmemory") for node in nodes):
        return Check(name, True, False, "no maxmemory: kept responses stop at their quotas alone")
    return Check(name, True, True, KEEPS_ALL)
