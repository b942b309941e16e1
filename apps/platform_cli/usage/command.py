"""Print usage and cost as a table, CSV or JSON."""

import csv
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal

import orjson
import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from apps.platform_cli.database.commands import read_database, write_lines
from apps.platform_cli.terminal.progress import Progress
from platform_app.ledger.reading.usage import UsagePage, UsageReader
from platform_app.ledger.reading.usage_query import FIELDS, GroupBy, UsageFilter

Format = Literal["table", "json", "csv"]

_SUMS = (
    "requests", "errors", "client_closed", "prompt_tokens", "completion_tokens", "cached_tokens", "total_tokens",
    "cost_usd", "requests_without_price", "estimated_requests", "mean_duration_ms", "mean_first_token_ms",
)  # fmt: skip
_TABLE = {
    "requests": "requests",
    "errors": "errors",
    "prompt_tokens": "tokens in",
    "cached_tokens": "cached",
    "completion_tokens": "tokens out",
    "cost_usd": "cost USD",
    "requests_without_price": "no price",
    "mean_duration_ms": "mean ms",
}
"""The columns of the table, with their titles."""


def print_usage(wanted: UsageFilter, group_by: Sequence[GroupBy], form: Format) -> None:
    """Print every matching group, and the totals."""

    async def work(engine: AsyncEngine) -> None:
        reader = UsageReader(engine)
        names = [FIELDS[group] for group in dict.fromkeys(group_by)]
        if form == "csv":
            lines = csv.DictWriter(sys.stdout, [*names, *_SUMS], lineterminator="\n")
            lines.writeheader()
            with Progress("groups") as progress:
                async for page in _pages(reader, wanted, group_by):
                    lines.writerows(page.groups)
                    progress.add(len(page.groups))
            return
        pages = [page async for page in _pages(reader, wanted, group_by)]
        groups = [group for page in pages for group in page.groups]
        if form == "json":
            whole = pages[-1].plain() | {"data": groups}
            del whole["next_cursor"]
            typer.echo(orjson.dumps(whole).decode())
            return
        _print_table(names, groups, pages[-1])

    read_database(work)


def print_records(wanted: UsageFilter) -> None:
    """Print each matching record as a JSON line, newest first, in bounded memory."""

    async def work(engine: AsyncEngine) -> None:
        with Progress("records") as progress:
            async for records in UsageReader(engine).records(wanted, only_owner=None):
                write_lines(records)
                progress.add(len(records), records[-1].get("occurred_at") if records else None)

    read_database(work)


async def _pages(
    reader: UsageReader, wanted: UsageFilter, group_by: Sequence[GroupBy]
) -> AsyncGenerator[UsagePage, None]:
    cursor = None
    while True:
        page = await reader.page(wanted, group_by, only_owner=None, cursor=cursor)
        yield page
        cursor = page.next_cursor
        if cursor is None:
            return


def _print_table(names: Sequence[str], groups: Sequence[Mapping[str, Any]], last: UsagePage) -> None:
    total = {**dict.fromkeys(names, ""), names[0]: "total", **last.totals}
    columns = {name: name for name in names} | _TABLE
    cells = [list(columns.values())]
    cells += [[_cell(row[name]) for name in columns] for row in (*groups, total)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [
            cell.ljust(width) if index < len(names) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(padded).rstrip())
    typer.echo(f"{last.since} to {last.until} (exclusive), UTC days.")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)
