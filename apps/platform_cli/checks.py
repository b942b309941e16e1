"""`flowbiz-platform check`: can this configuration run? One line for each part; nothing is changed."""

import asyncio
from collections.abc import AsyncIterator

import openai
import typer
from openai import AsyncOpenAI

from platform_app.config import PlatformConfig, ProviderConfig, Settings, load_config, load_settings, unknown_variables
from platform_app.core_contracts import core_problems, core_status
from platform_app.db.engine import make_engine
from platform_app.errors import SecretError
from platform_app.ledger.base import NullLedger
from platform_app.ledger.spooled import spool_problems
from platform_app.rate_limit.rules import RuleBook
from platform_app.readiness import Check, Readiness, RedisPolicy
from platform_app.resources import make_redis, make_secret_store, open_limiter, secret_problems
from platform_app.secret_store.base import SecretStore

PROVIDER_TIMEOUT_SECONDS = 5.0


def run_checks() -> int:
    """Print the lines; 0 where every part is fine, 1 where any is not, 2 for a broken configuration."""
    settings = load_settings()
    config = load_config(settings)
    typer.echo(_line(Check("configuration", True, True, _summary(config))))
    failed = False
    for name in unknown_variables():
        typer.echo(_line(Check(f"variable {name}", False, False, "nothing reads it; is it misspelt?")))

    async def main() -> None:
        nonlocal failed
        async for check in _checks(settings, config):
            typer.echo(_line(check))
            failed = failed or not check.ok

    asyncio.run(main())
    return 1 if failed else 0


async def _checks(settings: Settings, config: PlatformConfig) -> AsyncIterator[Check]:
    secrets = make_secret_store(settings)
    problems = await secret_problems(settings, config, secrets)
    for problem in problems:
        yield Check("secrets", False, True, problem)
    if not problems:
        yield Check("secrets", True, True, f"all in the store '{secrets.scheme}'")
    engine, redis = make_engine(settings), make_redis(settings)
    try:
        async with open_limiter(settings) as limiter:
            policy = RedisPolicy(RuleBook(config.rate_limits.rules), limiter)
            checks = await Readiness(engine, redis, settings, NullLedger(), policy).checks()
        for check in checks:
            if check.name != "ledger":
                yield check
    finally:
        await redis.aclose()
        await engine.dispose()
    for name, provider in config.providers.items():
        yield await _provider(name, provider, secrets)
    await secrets.aclose()
    spool = spool_problems(settings)
    yield Check("spool", not spool, True, "; ".join(spool) or f"{settings.spool_dir} can be written")
    yield _core(settings)


async def _provider(name: str, provider: ProviderConfig, secrets: SecretStore) -> Check:
    """Whether it answers and takes our credential: the list of models costs nothing at any provider."""
    what = f"provider {name}"
    try:
        credential = (await secrets.get(provider.api_key_secret)).value
    except SecretError:
        return Check(what, False, True, "not asked, its credential is missing")
    client = AsyncOpenAI(
        api_key=credential, base_url=provider.base_url, max_retries=0, timeout=PROVIDER_TIMEOUT_SECONDS
    )
    try:
        async with client:
            await client.models.list()
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        return Check(what, False, True, f"{provider.base_url} refuses the credential ({error.status_code})")
    except openai.NotFoundError:  # not every compatible server lists its models
        return Check(what, True, True, f"{provider.base_url} answers, without a list of models")
    except openai.APIStatusError as error:
        return Check(what, False, True, f"{provider.base_url} answers {error.status_code}")
    except openai.OpenAIError as error:
        return Check(what, False, True, f"{provider.base_url} does not answer ({type(error).__name__})")
    return Check(what, True, True, f"{provider.base_url} answers and takes the credential")


def _core(settings: Settings) -> Check:
    status, problems = core_status(), core_problems()
    if status.installed is None and not settings.require_core:
        return Check("core", True, False, f"not installed (pinned {status.pinned}); nothing needs it")
    detail = "; ".join(problems) or f"{status.installed}, the same contracts"
    return Check("core", not problems, settings.require_core, detail)


def _summary(config: PlatformConfig) -> str:
    return (
        f"{len(config.models)} models, {len(config.providers)} providers, {len(config.rate_limits.rules)} limit rules"
    )


def _line(check: Check) -> str:
    mark = "ok  " if check.ok else ("FAIL" if check.required else "warn")
    return f"{mark}  {check.name:<24} {check.detail}"
