"""Compare a provider's bill with the ledger by UTC day and model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from apps.platform_cli.database.commands import read_database
from apps.platform_cli.usage.bill_csv import FORMATS, Bill, BillError, Columns, Group, Sums, family, read_bill
from platform_app.ledger.reading.usage import UpstreamUsage, UsageReader

AGREES, UNREADABLE, DIFFERS = 0, 2, 3
"""Exit codes. Exit code 1 means that the ledger cannot be read, as for every command."""
QUERY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of a comparison."""

    path: Path
    provider: str
    form: str | None
    columns: Mapping[str, Any]
    """Columns that flags name, by their attribute of Columns."""
    delimiter: str | None
    models: Mapping[str, str]
    """The model's name in the bill -> its name in the routes."""
    since: date | None
    until: date | None
    tolerance: Decimal
    """Percent of the larger side."""


@dataclass(frozen=True, slots=True)
class Line:
    """One day and model in the bill and in the ledger."""

    day: date
    model: str
    billed: Sums
    ledger: Sums
    estimated: int
    unpriced: int
    differences: tuple[str, ...]
    """The names of the differing sums."""


def run_reconcile(wanted: Wanted, *, everything: bool, as_json: bool) -> int:
    """Print the lines that differ (with `everything` also those that agree). Return the exit code."""
    try:
        bill = _limited(read_bill(wanted.path, _columns(wanted), wanted.delimiter), wanted)
        if not bill.groups:
            raise BillError(f"{wanted.path.name}: no row in this period")
    except BillError as error:
        typer.echo(str(error), err=True)
        return UNREADABLE
    days = [day for day, _ in bill.groups]
    since, until = wanted.since or min(days), wanted.until or max(days) + timedelta(days=1)
    found: list[UpstreamUsage] = []

    async def work(engine: AsyncEngine) -> None:
        found.extend(await UsageReader(engine).by_upstream_model(wanted.provider, since, until))

    read_database(work, timeout_seconds=QUERY_SECONDS)
    lines = compare(bill, found, wanted)
    differing = [line for line in lines if line.differences]
    shown = lines if everything else differing
    if as_json:
        typer.echo(orjson.dumps([_plain(line) for line in shown]).decode())
    else:
        _print(shown, bill.columns)
        period = f"{since} to {until} (exclusive), UTC days"
        typer.echo(f"{len(differing)} of {len(lines)} differ by more than {wanted.tolerance} %: {period}.")
    return DIFFERS if differing else AGREES


def compare(bill: Bill, found: Sequence[UpstreamUsage], wanted: Wanted) -> list[Line]:
    """Return a line for each day and model of either side. A bill without models is compared by day only."""
    ledger: dict[Group, Sums] = {}
    marks: dict[Group, list[int]] = {}
    for row in found:
        group = row.day, family(row.upstream_model) if bill.by_model else ""
        sums = Sums(row.prompt_tokens, row.cached_tokens, row.completion_tokens, row.requests, row.cost_usd)
        ledger.setdefault(group, Sums()).add(sums)
        mark = marks.setdefault(group, [0, 0])
        mark[0] += row.estimated_requests
        mark[1] += row.requests_without_price
    billed: dict[Group, Sums] = {}
    for (day, model), sums in bill.groups.items():
        billed.setdefault((day, model if bill.by_model else ""), Sums()).add(sums)
    lines = []
    for group in sorted(billed.keys() | ledger.keys()):
        one, other = billed.get(group, Sums()), ledger.get(group, Sums())
        estimated, unpriced = marks.get(group, [0, 0])
        differences = tuple(_differences(one, other, bill.columns, wanted.tolerance))
        lines.append(Line(group[0], group[1], one, other, estimated, unpriced, differences))
    return lines


def _differences(billed: Sums, ledger: Sums, columns: Columns, tolerance: Decimal) -> Iterator[str]:
    for name in _compared(columns):
        one, other = Decimal(getattr(billed, name)), Decimal(getattr(ledger, name))
        if abs(one - other) * 100 > tolerance * max(abs(one), abs(other)):
            yield name


def _compared(columns: Columns) -> Sequence[str]:
    """Return the sums that this bill contains."""
    return [name for name in ("requests", "input", "cached", "output", "cost") if getattr(columns, name)]


def _columns(wanted: Wanted) -> Columns | None:
    """Return the columns of the format, replaced by those that flags name; None to detect the format by the header.

    Raises:
        BillError: flags name columns, but not the day's.
    """
    named = {name: value for name, value in wanted.columns.items() if value}
    if wanted.form is not None:
        return replace(FORMATS[wanted.form], **named)
    if not named:
        return None
    if "day" not in named:
        raise BillError("--day-column: required with the other column flags; or use --format")
    return Columns(**named)


def _limited(bill: Bill, wanted: Wanted) -> Bill:
    """Return the rows of the period, with the routes' names of models."""
    renamed = {family(bills): family(ours) for bills, ours in wanted.models.items()}
    limited = Bill(bill.columns)
    for (day, model), sums in bill.groups.items():
        if (wanted.since is None or day >= wanted.since) and (wanted.until is None or day < wanted.until):
            limited.groups.setdefault((day, renamed.get(model, model)), Sums()).add(sums)
    return limited


def _plain(line: Line) -> Mapping[str, Any]:
    return {
        "day": line.day.isoformat(),
        "model": line.model or None,
        "billed": _sums(line.billed),
        "ledger": _sums(line.ledger),
        "estimated_requests": line.estimated,
        "requests_without_price": line.unpriced,
        "differences": list(line.differences),
    }


def _sums(sums: Sums) -> Mapping[str, Any]:
    return {
        "requests": sums.requests,
        "input": sums.input,
        "cached": sums.cached,
        "output": sums.output,
        "cost_usd": f"{sums.cost:f}",
    }


def _print(lines: Sequence[Line], columns: Columns) -> None:
    for line in lines:
        typer.echo(f"{line.day}  {line.model or '(all models)'}{'' if line.differences else '  agrees'}")
        for name in _compared(columns):
            billed, ledger = getattr(line.billed, name), getattr(line.ledger, name)
            mark = "  differs" if name in line.differences else ""
            typer.echo(f"    {name:<9} billed {billed:>16,}  ledger {ledger:>16,}{mark}")
        if line.differences and (line.estimated or line.unpriced):
            typer.echo(f"    of the ledger's requests {line.estimated} are estimated, {line.unpriced} have no price")
