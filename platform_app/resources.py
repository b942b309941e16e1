"""Everything that is opened once per process: the only place that names concrete classes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy.ext.asyncio import AsyncEngine

from platform_app.auth.authenticator import Authenticator, AuthPolicy, SecretPeppers
from platform_app.auth.cache import KeyCache
from platform_app.auth.invalidation import InvalidationListener, RedisAnnouncer
from platform_app.auth.key_rules import KeyRules
from platform_app.auth.keys import KeyStore
from platform_app.auth.lifecycle import KeyLifecycle
from platform_app.auth.throttle import FailureThrottle, NoThrottle
from platform_app.chat import ChatService
from platform_app.config import PlatformConfig, Settings, environment, load_config
from platform_app.db.engine import make_engine
from platform_app.errors import ConfigurationError, SecretError
from platform_app.ledger.base import Ledger
from platform_app.ledger.reader import AuditReader
from platform_app.ledger.spooled import open_ledger
from platform_app.llm.base import ChatAdapter
from platform_app.llm.catalog import Catalog
from platform_app.llm.openai_adapter import Deadlines, OpenAIAdapter
from platform_app.rate_limit.cluster_pipe import ClusterPipe
from platform_app.rate_limit.degrading_limiter import DegradingLimiter
from platform_app.rate_limit.failure_throttle import AddressThrottle
from platform_app.rate_limit.gate import RateLimitGate
from platform_app.rate_limit.limiter import RateLimiter
from platform_app.rate_limit.local_limiter import LocalLimiter
from platform_app.rate_limit.redis_limiter import RedisLimiter
from platform_app.rate_limit.rules import RuleBook
from platform_app.rate_limit.script_pipe import ScriptPipe
from platform_app.rate_limit.scripts import ALL as SCRIPTS
from platform_app.rate_limit.split_limiter import SplitLimiter
from platform_app.readiness import Readiness, RedisPolicy
from platform_app.secret_store.base import SecretStore
from platform_app.secret_store.cache import CachedSecretStore
from platform_app.secret_store.env import EnvSecretStore

REDIS_CONNECTIONS = 16
WARM_SECONDS = 1.0
"""How long the start waits for Redis; it goes on without."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What routes may use; handed to each request, never changed."""

    settings: Settings
    config: PlatformConfig
    keys: KeyStore
    lifecycle: KeyLifecycle
    peppers: SecretPeppers
    authenticator: Authenticator
    limits: RateLimitGate
    chat: ChatService
    readiness: Readiness
    ledger: Ledger
    audit: AuditReader
    engine: AsyncEngine = field(repr=False)
    redis: "Redis" = field(repr=False)
    secrets: SecretStore = field(repr=False)


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """Open, yield, close in reverse order. Opens no connection by itself: a dependency that is down does not stop
    the process from starting.

    Raises:
        ConfigurationError: the config file or a required secret is wrong; names every problem.
    """
    config = load_config(settings)
    async with AsyncExitStack() as stack:
        secrets = CachedSecretStore(make_secret_store(settings), settings.secret_ttl_seconds)
        stack.push_async_callback(secrets.aclose)
        peppers = SecretPeppers(secrets, settings.api_key_pepper_secret_name)
        if problems := await secret_problems(settings, config, secrets):
            raise ConfigurationError(problems)
        engine = make_engine(settings)
        stack.push_async_callback(engine.dispose)
        redis = make_redis(settings)
        stack.push_async_callback(redis.aclose)
        ledger = await stack.enter_async_context(open_ledger(settings))
        keys, cache = KeyStore(engine), KeyCache(settings.auth_cache_size)
        rules = RuleBook(config.rate_limits.rules)
        limiter = await stack.enter_async_context(open_limiter(settings))
        _run_until_closed(stack, InvalidationListener(redis, cache).run())
        session = await stack.enter_async_context(_provider_session(settings))
        limits = RateLimitGate(rules, limiter)
        yield Resources(
            settings=settings,
            config=config,
            keys=keys,
            peppers=peppers,
            authenticator=Authenticator(
                keys,
                peppers,
                cache,
                AuthPolicy(
                    settings.auth_cache_ttl_seconds,
                    settings.auth_stale_seconds,
                    settings.database_timeout_seconds,
                ),
                throttle=_throttle(settings, limiter),
            ),
            lifecycle=KeyLifecycle(engine, _key_rules(config), RedisAnnouncer(redis, cache)),
            limits=limits,
            chat=ChatService(
                catalog=Catalog(config, settings.default_model),
                limits=limits,
                secrets=secrets,
                adapters=_adapters(settings, config, session),
            ),
            readiness=Readiness(engine, redis, settings, ledger, RedisPolicy(rules, limiter)),
            ledger=ledger,
            audit=AuditReader(engine),
            engine=engine,
            redis=redis,
            secrets=secrets,
        )


@dataclass(frozen=True, slots=True)
class KeyAdmin:
    """What the command line needs to manage keys."""

    keys: KeyStore
    lifecycle: KeyLifecycle
    peppers: SecretPeppers


@asynccontextmanager
async def open_key_admin(
    settings: Settings, secrets: SecretStore | None = None, config: PlatformConfig | None = None
) -> AsyncIterator[KeyAdmin]:
    """The keys alone, with the settings' secret store unless another is given. With `config`, keys are held to its
    models and limit rules."""
    async with AsyncExitStack() as stack:
        secrets = secrets or make_secret_store(settings)
        stack.push_async_callback(secrets.aclose)
        engine = make_engine(settings)
        stack.push_async_callback(engine.dispose)
        redis = make_redis(settings)
        stack.push_async_callback(redis.aclose)
        rules = _key_rules(config) if config else KeyRules()
        yield KeyAdmin(
            KeyStore(engine),
            KeyLifecycle(engine, rules, RedisAnnouncer(redis)),
            SecretPeppers(secrets, settings.api_key_pepper_secret_name),
        )


def make_secret_store(settings: Settings) -> SecretStore:
    """The store that PLATFORM_SECRET_PROVIDER names."""
    match settings.secret_provider:
        case "env":
            return EnvSecretStore(environment())


async def secret_problems(settings: Settings, config: PlatformConfig, secrets: SecretStore) -> list[str]:
    """Look up the pepper and every provider's credential; one line for each that cannot be had."""
    problems = []
    try:
        await SecretPeppers(secrets, settings.api_key_pepper_secret_name).current()
    except SecretError as error:
        problems.append(f"API key pepper, secret '{settings.api_key_pepper_secret_name}': {error}")
    for name, provider in config.providers.items():
        try:
            await secrets.get(provider.api_key_secret)
        except SecretError as error:
            problems.append(f"provider '{name}', secret '{provider.api_key_secret}': {error}")
    return problems


def make_redis(settings: Settings) -> "Redis":
    """A client that never waits longer than `redis_timeout_ms` for a connection, a socket or an answer, and never
    retries: what happens next is decided by whoever asked. On a cluster it takes single-key commands, PING and
    pub/sub alike."""
    url, seconds = settings.redis_url.get_secret_value(), settings.redis_timeout_ms / 1000
    timeouts: dict[str, Any] = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    if settings.redis_cluster:
        cluster = RedisCluster.from_url(url, max_connections=REDIS_CONNECTIONS, retry=Retry(NoBackoff(), 1), **timeouts)
        return cast("Redis", cluster)  # another class of redis-py, with the same commands
    pool = BlockingConnectionPool.from_url(
        url, max_connections=REDIS_CONNECTIONS, timeout=seconds, retry=Retry(NoBackoff(), 0), **timeouts
    )
    return Redis.from_pool(pool)


@asynccontextmanager
async def open_redis_limiter(settings: Settings) -> AsyncIterator[RateLimiter]:
    """The limiter that all processes share, with the task that renews what this one holds."""
    url, seconds = settings.redis_url.get_secret_value(), settings.redis_timeout_ms / 1000
    async with AsyncExitStack() as stack:
        scripts = ClusterPipe(url, seconds) if settings.redis_cluster else ScriptPipe(url, seconds)
        stack.push_async_callback(scripts.aclose)
        await scripts.warm([script.text for script in SCRIPTS], WARM_SECONDS)
        counting = RedisLimiter(scripts, by_hash_tag=settings.redis_cluster)
        _run_until_closed(stack, counting.renew_holds())
        stack.push_async_callback(counting.aclose)
        yield SplitLimiter(counting) if settings.redis_cluster else counting


@asynccontextmanager
async def open_limiter(settings: Settings) -> AsyncIterator[DegradingLimiter]:
    """The limiter of a process: the shared one, and its own while that cannot be reached."""
    async with open_redis_limiter(settings) as shared:
        limiter = DegradingLimiter(shared, LocalLimiter(processes=settings.replicas * settings.workers))
        try:
            yield limiter
        finally:
            await limiter.aclose()


def _run_until_closed(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Run a task in the background; closing the stack cancels it and waits for its end."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)


def _key_rules(config: PlatformConfig) -> KeyRules:
    return KeyRules(config.rate_limits.rules, config.models)


def _throttle(settings: Settings, limiter: RateLimiter) -> FailureThrottle:
    if not settings.auth_failures_per_minute:
        return NoThrottle()
    return AddressThrottle(limiter, settings.auth_failures_per_minute)


def _adapters(settings: Settings, config: PlatformConfig, session: aiohttp.ClientSession) -> dict[str, ChatAdapter]:
    deadlines = Deadlines(
        connect=settings.provider_connect_timeout_seconds,
        first_byte=settings.provider_first_byte_timeout_seconds,
        total=settings.provider_total_timeout_seconds,
    )
    return {
        name: OpenAIAdapter(session, provider.base_url, deadlines, settings.provider_max_response_bytes)
        for name, provider in config.providers.items()
    }


@asynccontextmanager
async def _provider_session(settings: Settings) -> AsyncIterator[aiohttp.ClientSession]:
    """One pool of connections for all providers. No cookies: one caller's answer must not mark another's request."""
    connector = aiohttp.TCPConnector(limit=settings.provider_max_connections, ttl_dns_cache=60)
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "flowbiz-platform"},
    )
    try:
        yield session
    finally:
        await session.close()
        await asyncio.sleep(0)  # lets the transports of open connections close before the loop does
