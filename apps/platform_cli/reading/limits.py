"""`flowbiz-platform limits`: which limit rules apply to a request, and what remains of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from apps.platform_api.limits.schemas import limit_view
from platform_app.auth.keys.records import KeyRecord
from platform_app.auth.keys.store import DATABASE_ERRORS, KeyStore
from platform_app.config import PlatformConfig, Settings, load_config, load_settings
from platform_app.config.limits.checks import LIMITED_ROUTES, ROUTES_WITH_MODEL
from platform_app.db.engine import make_engine
from platform_app.db.failures import database_failure
from platform_app.errors import AuthUnavailable, LimiterUnavailable, ValidationFailed
from platform_app.ledger.reading.spent import SpentReader
from platform_app.rate_limit.limiter import RuleState
from platform_app.rate_limit.limiters.opening import open_redis_limiter
from platform_app.rate_limit.matching import Explanation, LimitedRequest, RuleBook
from platform_app.rate_limit.service import RateLimitService
from platform_app.resources.budget_history import LedgerHistory

app = typer.Typer(no_args_is_help=True)

_Explained = Sequence[tuple[Explanation, RuleState | None]]


@app.callback()
def limits() -> None:
    """Explain the limits of keys."""


@app.command()
def explain(
    key: Annotated[str, typer.Option(help="The id of a key.")],
    route: Annotated[str, typer.Option(help="A route template.")] = "/v1/platform/chat",
    model: Annotated[str | None, typer.Option(help="A public model name; the default model without it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show which rules apply to a request of this key: each limit, whether it is the key's own, and what remains.

    A request is allowed if every rule that applies has room. For rules that count by key, the key's own limit replaces
    the rule's.
    """
    settings = load_settings()
    config = load_config(settings)
    problems = []
    if route not in LIMITED_ROUTES:
        problems.append(f"--route: choose one of {', '.join(sorted(LIMITED_ROUTES))}")
    asked = (model or settings.default_model) if route in ROUTES_WITH_MODEL else None
    if asked is not None:
        asked = config.model_names.model_of(asked)
        if asked is None:
            problems.append(f"--model: choose one of {', '.join(sorted(config.models))}")
    if problems:
        raise ValidationFailed("The command is not valid.", details=problems)
    record, explained, answers = asyncio.run(_explain(settings, config, key, route, asked))
    if as_json:
        data = [limit_view(each, state) | {"counter": each.counter} for each, state in explained]
        typer.echo(json.dumps({"key_id": record.key_id, "route": route, "model": asked, "data": data}))
        return
    typer.echo(f"A request of {record.key_id} (owner {record.owner}) to {route}" + (f" for {asked}:" if asked else ":"))
    for each, state in explained:
        typer.echo("\n".join(_lines(each, state)))
    if not answers:
        typer.echo("Redis does not respond, so the remaining amounts are unknown.")


async def _explain(
    settings: Settings, config: PlatformConfig, key_id: str, route: str, model: str | None
) -> tuple[KeyRecord, _Explained, bool]:
    async with aclosing_engine(settings) as engine:
        try:
            record = await KeyStore(engine).get(key_id, only_owner=None)
        except DATABASE_ERRORS as error:
            raise AuthUnavailable(f"The database cannot be used: {database_failure(error)}.") from None
        usage = LimitedRequest(record.key_id, record.owner, route, model, record.limits or {})
        # With the ledger's sums, so that a budget whose counter Redis has lost is not shown as unspent.
        history = LedgerHistory(SpentReader(engine, settings.spool_dir))
        async with open_redis_limiter(settings, history) as limiter:
            gate = RateLimitService(RuleBook(config.rate_limits.rules), limiter)
            try:
                return record, await gate.explain(usage), True
            except LimiterUnavailable:
                return record, [(each, None) for each in gate.rules.explain(usage)], False


@asynccontextmanager
async def aclosing_engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """Open an engine for the command's duration."""
    engine = make_engine(settings)
    try:
        yield engine
    finally:
        await engine.dispose()


def _lines(explained: Explanation, state: RuleState | None) -> list[str]:
    rule = explained.rule
    if explained.why_not is not None:
        return [f"  -  {rule.name:<24} does not apply: {explained.why_not}"]
    whose = "the key's own limit" if explained.own else "the config file's limit"
    lines = [
        f"  {'~' if rule.shadow else '+'}  {rule.sentence}; {whose}{'; shadow, only counts' if rule.shadow else ''}",
        f"     {'':<24} counter {explained.counter}",
    ]
    if state is not None:
        lines.append(
            f"     {'':<24} {rule.shown(state.remaining)} left, more comes back in {state.reset_seconds:.1f} s"
        )
    return lines
