"""Create the clients of the Redis servers in the settings."""

from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from platform_app.config import Settings
from platform_app.redis.client import PipelinedRedis
from platform_app.redis.cluster import PipelinedCluster
from platform_app.redis.tls import share_tls, share_tls_of_cluster

REDIS_CONNECTIONS = 16


def make_redis(settings: Settings) -> Redis:
    """Return a client that never waits longer than `redis_timeout_ms` for a connection, a socket or a response.

    It never retries: the calling code decides what happens next. On a cluster it accepts single-key commands, PING and
    pub/sub too.
    """
    url, seconds = settings.redis_client_url, settings.redis_timeout_ms / 1000
    timeouts: dict[str, Any] = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    if settings.redis_cluster:
        cluster = RedisCluster.from_url(url, max_connections=REDIS_CONNECTIONS, retry=Retry(NoBackoff(), 1), **timeouts)
        share_tls_of_cluster(cluster)
        return cast("Redis", cluster)  # another class of redis-py, with the same commands
    pool = BlockingConnectionPool.from_url(
        url, max_connections=REDIS_CONNECTIONS, timeout=seconds, retry=Retry(NoBackoff(), 0), **timeouts
    )
    share_tls(pool)
    return Redis.from_pool(pool)


def make_script_client(settings: Settings) -> PipelinedRedis | PipelinedCluster:
    """Return a client that sends scripts over one connection."""
    url, seconds = settings.redis_client_url, settings.redis_timeout_ms / 1000
    return PipelinedCluster(url, seconds) if settings.redis_cluster else PipelinedRedis(url, seconds)


def make_idempotency_client(settings: Settings) -> PipelinedRedis | PipelinedCluster:
    """Return the client of the Redis in which responses are stored."""
    if settings.idempotency_redis_url is None:
        return make_script_client(settings)
    url, seconds = settings.idempotency_client_url, settings.redis_timeout_ms / 1000
    return PipelinedCluster(url, seconds) if settings.idempotency_redis_cluster else PipelinedRedis(url, seconds)
