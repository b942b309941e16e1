"""Open everything that a process needs once, and create the concrete objects.

`open_resources` opens the stores, builds the services from them, and closes all of it in reverse order. Requests get
the frozen `Resources`. Models and adapters are built in `llm/models/builder.py`, secret stores in
`secret_store/configured.py`, Redis clients in `redis/clients.py`, and the limiter in `rate_limit/limiters/opening.py`.

Reloads of the config file: `config_reload.py` sees a change, `live_config.py` replaces what depends on it, all or
nothing, `config_changes.py` names the difference, and `config_audit.py` records it.

Credentials: `provider_credentials.py` takes them from the secret store, `required_secrets.py` lists those without which
nothing works, `certificates.py` knows when files expire.

`budget_history.py` and `idempotency_quota.py` join the limiter with the ledger and with stored responses,
`owner_checks.py` finds misspelt owners, `runtime_gauges.py` reads a worker's gauges, and `key_admin.py` manages keys
for the command line.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from platform_app.auth.authenticator import Authenticator, AuthPolicy, SecretPeppers
from platform_app.auth.cache import KeyCache
from platform_app.auth.keys.events import KeyEventListener, RedisKeyEvents
from platform_app.auth.keys.service import KeyLifecycle
from platform_app.auth.keys.store import KeyStore
from platform_app.auth.throttle import FailureThrottle, NoThrottle
from platform_app.chat import ChatService
from platform_app.config import PlatformConfig, Settings
from platform_app.config.reading.last_config import LastConfig
from platform_app.core_contracts import CoreStatus, core_status
from platform_app.db.connections import close_engines
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
from platform_app.observability.event_loop.background import run_until_closed
from platform_app.observability.logging import get_logger
from platform_app.rate_limit.auth_failures import AddressThrottle
from platform_app.rate_limit.limiter import RateLimiter
from platform_app.rate_limit.limiters.opening import open_limiter
from platform_app.rate_limit.limiters.orphan_settlements import OrphanSettlements
from platform_app.rate_limit.matching import RuleBook
from platform_app.rate_limit.service import RateLimitService
from platform_app.readiness import CachedReadiness, Readiness, RedisPolicy
from platform_app.redis.client import PipelinedRedis
from platform_app.redis.clients import make_idempotency_client, make_redis, make_script_client
from platform_app.redis.cluster import PipelinedCluster
from platform_app.resources.budget_history import LedgerHistory
from platform_app.resources.config_audit import ConfigAudit
from platform_app.resources.config_reload import ConfigReload, earlier_config_of, load_config_of
from platform_app.resources.idempotency_quota import LimiterQuota, QuotaLimits
from platform_app.resources.key_admin import key_rules_of
from platform_app.resources.live_config import LiveConfig, use_log_level
from platform_app.resources.owner_checks import OwnerWarnings
from platform_app.resources.provider_credentials import StoredCredentials
from platform_app.resources.required_secrets import pepper_problem, secret_problems
from platform_app.resources.runtime_gauges import RuntimeGauges
from platform_app.secret_store.base import RefreshableSecretStore
from platform_app.secret_store.cache import CachedSecretStore
from platform_app.secret_store.configured import make_secret_store, refresh_seconds
from platform_app.secret_store.usable import credential_problem

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
    redis: Redis = field(repr=False)
    secrets: RefreshableSecretStore = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Clients:
    """Connections to PostgreSQL and Redis. Each opens when it is first used."""

    engine: AsyncEngine
    probe_engine: AsyncEngine
    redis: Redis
    orphan_scripts: PipelinedRedis | PipelinedCluster
    """Separate: the charges of dead processes must not delay the limiter's commands."""
    responses: PipelinedRedis | PipelinedCluster
    """Separate: a long stored response must not delay the limiter's commands."""


LONGEST_START_WAIT_SECONDS = 60.0
"""A worker has two minutes until its first heartbeat must arrive."""


@asynccontextmanager
async def open_resources(
    settings: Settings, seconds_left: Callable[[], float] = lambda: 0.0
) -> AsyncIterator[Resources]:
    """Open the resources, yield them, and close them in reverse order. This connects to nothing, so a process starts
    while a dependency is unavailable. `seconds_left`: called at the end, see open_ledger.

    Raises:
        ConfigurationError: the config file or a required secret is wrong; it lists every problem.
    """
    last = LastConfig.of_this_gateway()
    loaded = load_config_of(settings, last)
    async with AsyncExitStack() as stack:
        secrets = _open_secrets(stack, settings)
        # A worker that is replaced waits for a store that is down: without it no key and no provider can be used.
        seconds = min(settings.start_timeout_seconds, LONGEST_START_WAIT_SECONDS)
        if problems := await secret_problems(settings, loaded.config, secrets, seconds):
            loaded = earlier_config_of(settings, last, loaded, problems)
            if problems := await secret_problems(settings, loaded.config, secrets):
                raise ConfigurationError(problems)
        config = loaded.config
        use_log_level(settings, config)
        last.store(loaded.content)
        clients = _open_clients(stack, settings)
        engine, redis = clients.engine, clients.redis
        settler = OrphanSettlements(clients.orphan_scripts)
        ledger = await stack.enter_async_context(open_ledger(settings, settler, seconds_left))
        keys, cache = KeyStore(engine), KeyCache(settings.auth_cache_size)
        rules = RuleBook(config.rate_limits.rules)
        history = LedgerHistory(SpentReader(engine, settings.spool_dir))
        limiter = await stack.enter_async_context(open_limiter(settings, history))
        run_until_closed(stack, KeyEventListener(redis, cache).run())
        connections = await stack.enter_async_context(provider_connections(settings))
        serving = ModelBuilder(connections, settings, StoredCredentials(secrets))
        models = ModelRegistry(serving.build(config), settings.default_model, config.rate_limits.default_output_tokens)
        key_rules = key_rules_of(config)
        limits = RateLimitService(rules, limiter)

        live = LiveConfig(settings, serving, rules, key_rules, models)
        gauges = RuntimeGauges(settings, config, (engine, clients.probe_engine), cache, connections)
        run_until_closed(stack, gauges.run())

        def apply(changed: PlatformConfig) -> None:
            live.apply(changed)
            gauges.config = changed

        audit = ConfigAudit(engine)
        reload = ConfigReload(
            settings,
            lambda changed: secret_problems(settings, changed, secrets),
            apply,
            loaded,
            audit,
            OwnerWarnings(engine).log,
            last=last,
        )
        _log.info("config_loaded", sha256=loaded.digest, models=len(config.models), providers=len(config.providers))
        if settings.config_file is not None:
            run_until_closed(stack, reload.run())
        store = RedisIdempotencyStore(clients.responses)
        policy = RedisPolicy(rules, limiter, store if settings.idempotency_ttl_seconds else None)
        readiness = CachedReadiness(Readiness(clients.probe_engine, redis, settings, ledger, policy))
        stack.push_async_callback(readiness.aclose)
        peppers = SecretPeppers(secrets, settings.api_key_pepper_secret_name)
        yield Resources(
            settings=settings,
            keys=keys,
            peppers=peppers,
            authenticator=Authenticator(
                keys, peppers, cache, _auth_policy(settings), throttle=_throttle(settings, limiter)
            ),
            lifecycle=KeyLifecycle(engine, key_rules, RedisKeyEvents(redis, cache), peppers),
            limits=limits,
            models=models,
            chat=ChatService(models, limits, ledger, settings.provider_total_timeout_seconds),
            readiness=readiness,
            core=core_status(),
            idempotency=IdempotencyService(store, _keeping(settings), LimiterQuota(limiter, _quota_limits(settings))),
            ledger=ledger,
            audit=AuditReader(engine),
            requests=RequestFinder(engine),
            usage=UsageReader(engine),
            reload=reload,
            engine=engine,
            redis=redis,
            secrets=secrets,
        )


def _open_secrets(stack: AsyncExitStack, settings: Settings) -> CachedSecretStore:
    """Open the secret store, which refreshes its secrets in the background."""
    store = make_secret_store(settings)
    pepper = settings.api_key_pepper_secret_name
    secrets = CachedSecretStore(
        store,
        settings.secret_ttl_seconds,
        refresh_seconds=refresh_seconds(settings),
        problem_of=lambda name, value: pepper_problem(name, value) if name == pepper else credential_problem(value),
    )
    stack.push_async_callback(secrets.aclose)
    run_until_closed(stack, secrets.run())
    return secrets


def _open_clients(stack: AsyncExitStack, settings: Settings) -> _Clients:
    clients = _Clients(
        engine=make_engine(settings),
        probe_engine=make_probe_engine(settings),
        redis=make_redis(settings),
        orphan_scripts=make_script_client(settings),
        responses=make_idempotency_client(settings),
    )
    stack.push_async_callback(close_engines, clients.engine, clients.probe_engine)
    for client in (clients.redis, clients.orphan_scripts, clients.responses):
        stack.push_async_callback(client.aclose)
    return clients


def _auth_policy(settings: Settings) -> AuthPolicy:
    return AuthPolicy(settings.auth_cache_ttl_seconds, settings.auth_stale_seconds, settings.database_timeout_seconds)


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
