"""Run every check of the configuration and print a line for each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import typer

from apps.platform_cli.checks.output import line
from apps.platform_cli.checks.prices import price_checks
from apps.platform_cli.checks.provider_probe import model_checks, probe_provider
from apps.platform_cli.checks.redis import redis_checks
from apps.platform_cli.checks.spool import spool_check
from apps.platform_cli.checks.variables import variable_checks
from platform_app.config import PlatformConfig, ProviderConfig, Settings, load_config, load_settings_beside_file
from platform_app.core_contracts import core_problems, core_status
from platform_app.db.engine import make_engine
from platform_app.errors import SecretError
from platform_app.idempotency.redis_store import RedisIdempotencyStore
from platform_app.ledger.interfaces import NullLedger
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.interfaces import ModelList
from platform_app.llm.models.builder import provider_connections
from platform_app.rate_limit.limiters.opening import open_limiter
from platform_app.rate_limit.matching import RuleBook
from platform_app.readiness import Check, Readiness, RedisPolicy
from platform_app.redis.clients import make_idempotency_client, make_redis
from platform_app.resources.owner_checks import active_owners, owner_checks
from platform_app.resources.required_secrets import look_up_required, provider_secrets
from platform_app.secret_store.base import SecretStore
from platform_app.secret_store.configured import make_secret_store
from platform_app.secret_store.usable import credential_problem


def run_checks(live: bool = True, *, before_migration: bool = False) -> int:
    """Print the lines; with `live` also one for a call to each provider. Return 0 if every required part passes, else
    1. With `before_migration` a schema that is not at head is a warning.

    Raises:
        ConfigurationError: the configuration is invalid.
    """
    settings = load_settings_beside_file()
    config = load_config(settings)
    typer.echo(line(Check("configuration", True, True, _summary(config))))
    failed = False
    for check in variable_checks():
        typer.echo(line(check))
        failed = failed or check.required

    for sentence in settings.insecure_connections():
        typer.echo(line(Check("tls", False, False, sentence)))

    for check in price_checks(config):
        typer.echo(line(check))
        failed = failed or (check.required and not check.ok)

    if (proxy := settings.egress.proxy) is not None:
        typer.echo(line(Check("egress", True, True, f"calls to providers go through {proxy.host}:{proxy.port}")))

    async def main() -> None:
        nonlocal failed
        async for check in _checks(settings, config, live):
            if before_migration and check.name == "schema" and not check.ok:
                check = replace(check, required=False)
                typer.echo(line(check))
                continue
            typer.echo(line(check))
            failed = failed or (check.required and not check.ok)

    asyncio.run(main())
    return 1 if failed else 0


async def _checks(settings: Settings, config: PlatformConfig, live: bool) -> AsyncIterator[Check]:
    secrets = make_secret_store(settings)
    async with aclosing(secrets):
        for need in await look_up_required(settings, config, secrets):
            where = f"'{need.name}' in the store '{need.store}'"
            detail = f"{where}: {need.problem}" if need.problem else where
            yield Check(f"secret of {need.provider or 'the pepper'}", need.problem is None, True, detail)
        for name, secret in provider_secrets(config).items():
            if secret is None:
                yield Check(f"secret of {name}", True, True, "none needed")
        async for check in _servers(settings, config):
            yield check
        if live:
            async with provider_connections(settings) as pool:
                for name, provider in config.providers.items():
                    check, listed = await _provider(name, provider, provider_secrets(config)[name], secrets, pool)
                    yield check
                    for of_model in model_checks(name, config, listed or ModelList()):
                        yield of_model
    yield spool_check(settings.spool_dir, settings.spool_max_bytes)
    yield _core(settings)


async def _servers(settings: Settings, config: PlatformConfig) -> AsyncIterator[Check]:
    engine, redis, responses = make_engine(settings), make_redis(settings), make_idempotency_client(settings)
    try:
        async with open_limiter(settings) as limiter:
            store = RedisIdempotencyStore(responses) if settings.idempotency_ttl_seconds else None
            policy = RedisPolicy(RuleBook(config.rate_limits.rules), limiter, store)
            checks = await Readiness(engine, redis, settings, NullLedger(), policy).checks()
        for check in checks:
            if check.name != "ledger":
                # A running gateway can do without them for a while. `serve` and every deploy need them.
                yield replace(check, required=check.required or check.name in ("database", "redis"))
        async for check in redis_checks(settings):
            yield check
        if (owners := await active_owners(engine)) is not None:
            for check in owner_checks(config, owners):
                yield check
    finally:
        await responses.aclose()
        await redis.aclose()
        await engine.dispose()


async def _provider(
    name: str, provider: ProviderConfig, secret: str | None, secrets: SecretStore, pool: ConnectionPool
) -> tuple[Check, ModelList | None]:
    try:
        credential = (await secrets.get(secret)).value if secret is not None else None
    except SecretError:
        return Check(
            f"provider {name}", False, True, "not called: its credential is missing; see its secret above"
        ), None
    if credential is not None and credential_problem(credential) is not None:
        return Check(f"provider {name}", False, True, "not called: its credential cannot be used, see above"), None
    return await probe_provider(name, provider, credential, pool)


def _core(settings: Settings) -> Check:
    status, problems = core_status(), core_problems()
    if status.installed is None and not settings.require_core:
        return Check("core", True, False, f"not installed (pinned {status.pinned}); not required")
    detail = "; ".join(problems) or f"{status.installed}, the same contracts"
    return Check("core", not problems, settings.require_core, detail)


def _summary(config: PlatformConfig) -> str:
    return (
        f"{len(config.models)} models, {len(config.providers)} providers, {len(config.rate_limits.rules)} limit rules"
    )
