"""`flowbiz-platform request`: what happened to one request."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from apps.platform_cli.database.commands import read_database
from platform_app.config import load_settings
from platform_app.ledger.events.event import LedgerEvent
from platform_app.ledger.reading.requests import FoundRequest, RequestFinder, RequestIds, parse_ids
from platform_app.ledger.reading.spooled import SpoolTooLargeError, search_spool
from platform_app.observability.record import OK

MAX_SPOOL_BYTES = 256 * 1024 * 1024
"""A larger spool is not searched; at 500 MB a second this takes half a second."""
BAR_COLUMNS = 32

_NOT_FOUND = """\
No request with this id was found. That can mean:
  - It ended less than about two seconds ago, or it is still running: try again.
  - It was served by another machine whose records wait in that machine's spool: run this command there.
  - It is older than the retention (PLATFORM_RETENTION_DAYS, PLATFORM_USAGE_RETENTION_DAYS).
  - It had no valid key and was counted with others of its address and minute, so it has no separate row.
  - It was a probe (/healthz, /livez, /readyz), or it never reached this gateway: look in the proxy's log."""


def show_request(identifier: str, *, as_json: bool) -> int:
    """Print the requests with this id, newest first. Return the exit code: 1 if there are none."""
    wanted = parse_ids(identifier)
    spooled, spool_problem = _spooled(wanted)
    found: list[FoundRequest] = []

    async def work(engine: AsyncEngine) -> None:
        found.extend(await RequestFinder(engine).find(wanted, only_owner=None, spooled=spooled))

    read_database(work)
    if spool_problem is not None:
        typer.echo(f"The spool of this machine was not searched: {spool_problem}.", err=True)
    if as_json:
        typer.echo(orjson.dumps({"data": [request.plain() for request in found]}).decode())
    elif found:
        typer.echo("\n\n".join("\n".join(request_page(request)) for request in found))
    if not found:
        typer.echo(_NOT_FOUND, err=True)
    return 0 if found else 1


def _spooled(wanted: RequestIds) -> tuple[Sequence[LedgerEvent], str | None]:
    """Return matching events of this machine's spool, or why it was not searched."""
    try:
        return list(search_spool(load_settings().spool_dir, wanted.marks(), MAX_SPOOL_BYTES)), None
    except FileNotFoundError:
        return (), None
    except SpoolTooLargeError:
        return (), f"it has more than {MAX_SPOOL_BYTES // 1024 // 1024} MB"
    except OSError as error:
        return (), error.strerror or type(error).__name__


def request_page(request: FoundRequest) -> list[str]:
    """Return one request as lines for people."""
    access, usage = request.access, request.usage
    known = access or usage or {}
    lines = [
        f"request   {known['request_id']}",
        f"trace     {known['trace_id']}",
        f"when      {known['occurred_at']}"
        + ("" if request.stored else "  (not in PostgreSQL yet: in the spool here)"),
    ]
    if access is not None:
        lines += _decision(access)
    else:
        lines.append("decision  none is stored: the worker died before the response ended, or its retention is over")
    lines.append(f"key       {known['key_id'] or 'none was verified'}, owner {known['owner'] or 'unknown'}")
    lines.append(f"model     {known['model'] or 'none'}{_route_of(usage)}")
    if usage is not None and usage["session"] is not None:
        lines.append(f"session   {usage['session']}")
    if usage is not None:
        lines.append(_usage(usage))
    return lines + _timeline(request)


def _decision(access: Mapping[str, Any]) -> list[str]:
    reason = f" ({access['reason']})" if access["reason"] else ""
    lines = [
        f"decision  {access['decision']}, status {access['status']}{reason}, {_ms(access['duration_ms'])}",
        f"route     {access['method']} {access['route']}, from {access['client_address'] or 'an unknown address'}",
    ]
    if access["count"] != 1:
        lines.append(f"          This row counts {access['count']} requests; the ids are of the first one.")
    return lines


def _route_of(usage: Mapping[str, Any] | None) -> str:
    if usage is None:
        return ""
    asked = "" if usage["requested_model"] is None else f" (requested as {usage['requested_model']})"
    return f"{asked} -> {usage['provider']}/{usage['upstream_model']}"


def _usage(usage: Mapping[str, Any]) -> str:
    estimated = " (estimated)" if usage["estimated"] else ""
    cost = "price unknown" if usage["cost_usd"] is None else f"{usage['cost_usd']} USD"
    first = "" if usage["first_token_ms"] is None else f", first token after {_ms(usage['first_token_ms'])}"
    return (
        f"usage     {usage['prompt_tokens']} + {usage['completion_tokens']} tokens{estimated}, {cost}, "
        f"{usage['attempts']} attempt{'' if usage['attempts'] == 1 else 's'}, {usage['outcome']}{first}"
    )


def _timeline(request: FoundRequest) -> list[str]:
    """Return hops and attempts in the order of their start, with a bar for each that has times."""
    steps = [(hop["start_ms"], hop["duration_ms"], hop["name"], _outcome(hop)) for hop in request.hops]
    steps += [
        (attempt["start_ms"], attempt["duration_ms"], _attempt_name(attempt), _attempt_facts(attempt))
        for attempt in request.attempts
    ]
    timed = sorted((step for step in steps if step[0] is not None), key=lambda step: step[0])
    whole = max([request.access["duration_ms"] if request.access else 0.0, *(s + (d or 0.0) for s, d, *_ in timed)])
    if not steps:
        return ["", "No step of 0.1 ms or more and no attempt at a provider is recorded."]
    width = max(len(name) for _, _, name, _ in steps)
    lines = ["", f"{'start':>12}  {'took':>12}  {'':{BAR_COLUMNS}}  step"]
    lines += [
        f"{_ms(start):>12}  {_ms(took) if took is not None else 'not ended':>12}  {_bar(start, took, whole)}  "
        f"{name:<{width}}  {facts}".rstrip()
        for start, took, name, facts in timed
    ]
    untimed = [
        f"{'':>12}  {'':>12}  {'':{BAR_COLUMNS}}  {name}  {facts}" for start, _, name, facts in steps if start is None
    ]
    return [*lines, *untimed, "Steps inside the gateway below 0.1 ms are not recorded."]


def _attempt_name(attempt: Mapping[str, Any]) -> str:
    return f"{attempt['provider']}/{attempt['upstream_model']}"


def _attempt_facts(attempt: Mapping[str, Any]) -> str:
    if attempt["sent"] is False:
        return f"not sent, {str(attempt['outcome']).replace('_', ' ')}"
    facts = [str(attempt["outcome"])]
    facts.append("no response" if attempt["status"] is None else f"status {attempt['status']}")
    if attempt["upstream_request_id"]:
        facts.append(f"its id {attempt['upstream_request_id']}")
    if attempt["message"]:
        facts.append(f'"{attempt["message"]}"')
    return ", ".join(facts)


def _outcome(hop: Mapping[str, Any]) -> str:
    return "" if hop["outcome"] == OK else str(hop["outcome"])


def _bar(start: float, took: float | None, whole: float) -> str:
    if whole <= 0:
        return " " * BAR_COLUMNS
    first = min(BAR_COLUMNS - 1, int(max(0.0, start) / whole * BAR_COLUMNS))
    length = BAR_COLUMNS - first if took is None else max(1, round(took / whole * BAR_COLUMNS))
    return (" " * first + "=" * length)[:BAR_COLUMNS].ljust(BAR_COLUMNS)


def _ms(value: float) -> str:
    return f"{value:,.1f} ms"
