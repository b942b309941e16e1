"""Open everything that a process needs once, and create the concrete objects.

`open_resources` opens the stores, builds the services from them, and closes all of it in reverse order. Requests get
the frozen `Resources`. Models and adapters are built in `llm/models/builder.py`, secret stores in
`secret_store/configured.py`. `config_reload.py` replaces what depends on the config file while the process runs.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy.ext.asyncio import AsyncEngine

from platform_app.auth.authenticator import Authenticator, AuthPolicy, SecretPeppers
from platform_app.auth.cache import KeyCache
from platform_app.auth.keys.events import KeyEventListener, RedisKeyEvents
from platform_app.auth.keys.rules import KeyRules
from platform_app.auth.keys.service import KeyLifecycle
from platform_app.auth.keys.store import KeyStore
from platform_app.auth.throttle import FailureThrottle, NoThrottle
from platform_app.chat import ChatService
from platform_app.config import PlatformConfig, Settings, environment, load_config_file
from platform_app.core_contracts import CoreStatus, core_status
from platform_app.db.engine import make_engine, make_probe_engine
from platform_app.errors import ConfigurationError
from platform_app.idempotency.in_flight import IdempotencyPolicy
from platform_app.idempotency.redis_store import RedisIdempotencyStore
from platform_app.idempotency.service import IdempotencyService
from platform_app.ledger.interfaces import Ledger
from platform_app.ledger.reading.audit import AuditReader
from platform_app.ledger.reading.requests import RequestFinder
from platform_app.ledger.reading.spent import SpentReader
from platform_app.ledger.reading.usage import UsageReader
from platform_app.ledger.service import open_ledger
from platform_app.llm.models.builder import ModelBuilder, provider_connections
from platform_app.llm.models.registry import ModelRegistry
from platform_app.observability.logging import get_logger
from platform_app.rate_limit.auth_failures import AddressThrottle
from platform_app.rate_limit.limiter import RateLimiter
from platform_app.rate_limit.limiters.cluster import ClusterLimiter
from platform_app.rate_limit.limiters.failover import FailoverLimiter
from platform_app.rate_limit.limiters.local import LocalLimiter
from platform_app.rate_limit.limiters.orphan_settlements import OrphanSettlements
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.limiters.scripts import ALL as SCRIPTS
from platform_app.rate_limit.limiters.seeding import BudgetHistory, Seeder, StaleBudgets
from platform_app.rate_limit.matching import RuleBook
from platform_app.rate_limit.service import RateLimitService
from platform_app.readiness import CachedReadiness, Readiness, RedisPolicy
from platform_app.redis.client import PipelinedRedis
from platform_app.redis.cluster import PipelinedCluster
from platform_app.resources.budget_history import LedgerHistory
from platform_app.resources.config_audit import ConfigAudit
from platform_app.resources.config_reload import ConfigReload
from platform_app.resources.idempotency_quota import LimiterQuota, QuotaLimits
from platform_app.resources.live_config import LiveConfig, use_log_level
from platform_app.resources.provider_credentials import StoredCredentials
from platform_app.resources.required_secrets import look_up_required
from platform_app.resources.runtime_gauges import RuntimeGauges
from platform_app.secret_store.base import RefreshableSecretStore, SecretStore
from platform_app.secret_store.cache import CachedSecretStore
from platform_app.secret_store.configured import configured_store, refresh_seconds

REDIS_CONNECTIONS = 16
LOAD_SCRIPTS_SECONDS = 1.0
"""How long the start waits for Redis; after that it continues without Redis."""

_log = get_logger("resources")


@dataclass(frozen=True, slots=True)
class Resources:
    """What routes may use; handed to each request, never changed."""

    settings: Settings
    keys: KeyStore
    lifecycle: KeyLifecycle
    peppers: SecretPeppers
    authenticator: Authenticator
    limits: RateLimitService
    models: ModelRegistry
    chat: ChatService
    idempotency: IdempotencyService
    readiness: CachedReadiness
    core: CoreStatus
    ledger: Ledger
    audit: AuditReader
    requests: RequestFinder
    usage: UsageReader
    reload: ConfigReload
    engine: AsyncEngine = field(repr=False)
    redis: "Redis" = field(repr=False)
    secrets: RefreshableSecretStore = field(repr=False)


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """Open, yield, close in reverse order. Opens no connection by itself: a dependency that is down does not stop
    the process from starting.

    Raises:
        ConfigurationError: the config file or a required secret is wrong; names every problem.
    """
    config, digest = load_config_file(settings)
    use_log_level(settings, config)
    async with AsyncExitStack() as stack:
        secrets = CachedSecretStore(
            make_secret_store(settings), settings.secret_ttl_seconds, refresh_seconds=refresh_seconds(settings)
        )
        stack.push_async_callback(secrets.aclose)
        _run_until_closed(stack, secrets.run())
        peppers = SecretPeppers(secrets, settings.api_key_pepper_secret_name)
        if problems := await secret_problems(settings, config, secrets):
            raise ConfigurationError(problems)
        engine = make_engine(settings)
        stack.push_async_callback(engine.dispose)
        probe_engine = make_probe_engine(settings)
        stack.push_async_callback(probe_engine.dispose)
        redis = make_redis(settings)
        stack.push_async_callback(redis.aclose)
        # A separate client: the charges of dead processes must not delay the limiter's commands.
        orphan_scripts = _script_client(settings)
        stack.push_async_callback(orphan_scripts.aclose)
        ledger = await stack.enter_async_context(open_ledger(settings, OrphanSettlements(orphan_scripts)))
        keys, cache = KeyStore(engine), KeyCache(settings.auth_cache_size)
        rules = RuleBook(config.rate_limits.rules)
        history = LedgerHistory(SpentReader(engine, settings.spool_dir))
        limiter = await stack.enter_async_context(open_limiter(settings, history))
        # A separate connection: a long stored response must not delay the limiter's commands.
        responses = make_idempotency_client(settings)
        stack.push_async_callback(responses.aclose)
        _run_until_closed(stack, KeyEventListener(redis, cache).run())
        connections = await stack.enter_async_context(provider_connections(settings))
        serving = ModelBuilder(connections, settings, StoredCredentials(secrets))
        models = ModelRegistry(serving.build(config), settings.default_model, config.rate_limits.default_output_tokens)
        key_rules = _key_rules(config)
        limits = RateLimitService(rules, limiter)

        live = LiveConfig(settings, serving, rules, key_rules, models)
        gauges = RuntimeGauges(settings, config, (engine, probe_engine), cache, connections)
        _run_until_closed(stack, gauges.run())

        def apply(changed: PlatformConfig) -> None:
            live.apply(changed)
            gauges.config = changed

        reload = ConfigReload(
            settings,
            lambda changed: secret_problems(settings, changed, secrets),
            apply,
            (config, digest),
            ConfigAudit(engine),
        )
        _log.info("config_loaded", sha256=digest, models=len(config.models), providers=len(config.providers))
        if settings.config_file is not None:
            _run_until_closed(stack, reload.run())
        store = RedisIdempotencyStore(responses)
        policy = RedisPolicy(rules, limiter, store if settings.idempotency_ttl_seconds else None)
        readiness = CachedReadiness(Readiness(probe_engine, redis, settings, ledger, policy))
        stack.push_async_callback(readiness.aclose)
        yield Resources(
            settings=settings,
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
            lifecycle=KeyLifecycle(engine, key_rules, RedisKeyEvents(redis, cache)),
            limits=limits,
            models=models,
            chat=ChatService(models, limits, ledger, settings.provider_total_timeout_seconds),
            readiness=readiness,
            core=core_status(),
            idempotency=IdempotencyService(
                store,
                _keeping(settings),
                LimiterQuota(limiter, _quota_limits(settings)),
            ),
            ledger=ledger,
            audit=AuditReader(engine),
            requests=RequestFinder(engine),
            usage=UsageReader(engine),
            reload=reload,
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
            KeyLifecycle(engine, rules, RedisKeyEvents(redis)),
            SecretPeppers(secrets, settings.api_key_pepper_secret_name),
        )


def make_secret_store(settings: Settings) -> SecretStore:
    """The store that PLATFORM_SECRET_PROVIDER names, without a cache. Raises ConfigurationError."""
    return configured_store(settings, environment())


async def secret_problems(settings: Settings, config: PlatformConfig, secrets: SecretStore) -> list[str]:
    """Look up the pepper and every provider's credential. Return one line for each that cannot be read."""
    return [str(need) for need in await look_up_required(settings, config, secrets) if need.problem]


def make_redis(settings: Settings) -> "Redis":
    """Return a client that never waits longer than `redis_timeout_ms` for a connection, a socket or a response.

    It never retries: the calling code decides what happens next. On a cluster it accepts single-key commands, PING and
    pub/sub too.
    """
    url, seconds = settings.redis_client_url, settings.redis_timeout_ms / 1000
    timeouts: dict[str, Any] = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    if settings.redis_cluster:
        cluster = RedisCluster.from_url(url, max_connections=REDIS_CONNECTIONS, retry=Retry(NoBackoff(), 1), **timeouts)
        return cast("Redis", cluster)  # another class of redis-py, with the same commands
    pool = BlockingConnectionPool.from_url(
        url, max_connections=REDIS_CONNECTIONS, timeout=seconds, retry=Retry(NoBackoff(), 0), **timeouts
    )
    return Redis.from_pool(pool)


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
        scripts = _script_client(settings)
        stack.push_async_callback(scripts.aclose)
        await scripts.load_scripts(SCRIPTS, LOAD_SCRIPTS_SECONDS)
        seeder = Seeder(scripts, history, stale) if history is not None else None
        counting = RedisLimiter(scripts, by_hash_tag=settings.redis_cluster, seeder=seeder)
        _run_until_closed(stack, counting.renew_reservations())
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


def _script_client(settings: Settings) -> PipelinedRedis | PipelinedCluster:
    url, seconds = settings.redis_client_url, settings.redis_timeout_ms / 1000
    return PipelinedCluster(url, seconds) if settings.redis_cluster else PipelinedRedis(url, seconds)


def make_idempotency_client(settings: Settings) -> PipelinedRedis | PipelinedCluster:
    """Return the client of the Redis in which responses are stored."""
    if settings.idempotency_redis_url is None:
        return _script_client(settings)
    url, seconds = settings.idempotency_client_url, settings.redis_timeout_ms / 1000
    return PipelinedCluster(url, seconds) if settings.idempotency_redis_cluster else PipelinedRedis(url, seconds)


def _run_until_closed(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Run a task in the background; closing the stack cancels it and waits for its end. A task that fails is a bug, and
    is logged at once."""
    task = asyncio.create_task(work)
    task.add_done_callback(_log_failure)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("background_task_failed", task=getattr(task.get_coro(), "__qualname__", ""), exc_info=error)


def _key_rules(config: PlatformConfig) -> KeyRules:
    return KeyRules(config.rate_limits.rules, config.models, config.owners)


def _throttle(settings: Settings, limiter: RateLimiter) -> FailureThrottle:
    if not settings.auth_failures_per_minute:
        return NoThrottle()
    return AddressThrottle(limiter, settings.auth_failures_per_minute)


def _keeping(settings: Settings) -> IdempotencyPolicy:
    return IdempotencyPolicy(
        settings.idempotency_ttl_seconds,
        settings.idempotency_max_bytes,
        settings.idempotency_failure_policy == "refuse",
    )


def _quota_limits(settings: Settings) -> QuotaLimits:
    return QuotaLimits(
        settings.idempotency_key_quota_bytes,
        settings.idempotency_owner_quota_bytes,
        settings.idempotency_ttl_seconds,
    )
