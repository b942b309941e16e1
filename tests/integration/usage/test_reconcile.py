"""`flowbiz-platform usage reconcile` against a real ledger (issue 11, kind 3)."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from apps.platform_cli.main import app
from platform_app.ledger.events.event import UsageRecord
from platform_app.ledger.shipping.batch import batch_of
from platform_app.ledger.shipping.shipper import Shipper
from tests.conftest import Platform
from tests.support.ledger.database import session_on
from tests.support.ledger.events import usage

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
DAYS = [NOON.date(), NOON.date() + timedelta(days=1)]
HEADER = "start_time_iso,model,num_model_requests,input_tokens,input_cached_tokens,output_tokens\n"


@pytest.fixture
async def environment(own_url: str, platform: Platform) -> Mapping[str, str]:
    """Two records of one model on the first day, one on the second, and one of another provider."""
    records = [
        usage(occurred_at=NOON, upstream_model="gpt-4o-mini-2024-07-18"),
        usage(occurred_at=NOON, upstream_model="gpt-4o-mini", key_id="b" * 12, estimated=True),
        usage(occurred_at=NOON + timedelta(days=1), upstream_model="gpt-4o-mini", cost_microusd=None),
        usage(occurred_at=NOON, provider="azure", prompt_tokens=10**6),
    ]
    await ship(own_url, *records)
    return {**platform.environment, "PLATFORM_DATABASE_URL": own_url}


async def ship(url: str, *records: UsageRecord) -> None:
    async with session_on(url) as session:
        assert await Shipper(session).ship(batch_of(records)) == []


def bill(directory: Path, *rows: str, header: str = HEADER) -> str:
    path = directory / "bill.csv"
    path.write_text(header + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return str(path)


def good_rows() -> list[str]:
    return [f"{DAYS[0]}T00:00:00+00:00,gpt-4o-mini-2024-07-18,2,200,80,40", f"{DAYS[1]},gpt-4o-mini,1,100,40,20"]


async def run(environment: Mapping[str, str], *arguments: str) -> Result:
    command = ["usage", "reconcile", *arguments]
    outcome = await asyncio.to_thread(CliRunner().invoke, app, command, env=dict(environment))
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.output
    return outcome


async def test_bill_that_agrees_exits_with_zero(environment: Mapping[str, str], tmp_path: Path) -> None:
    outcome = await run(environment, bill(tmp_path, *good_rows()))
    assert outcome.exit_code == 0, outcome.output
    assert f"0 of 2 differ by more than 1.0 %: {DAYS[0]} to {DAYS[1] + timedelta(days=1)}" in outcome.output


async def test_bill_that_differs_names_day_model_and_count(environment: Mapping[str, str], tmp_path: Path) -> None:
    rows = [good_rows()[0].replace(",200,", ",250,"), good_rows()[1]]
    outcome = await run(environment, bill(tmp_path, *rows))
    assert outcome.exit_code == 3
    assert f"{DAYS[0]}  gpt-4o-mini" in outcome.output
    assert str(DAYS[1]) not in outcome.output.partition("differ by")[0]
    [line] = [line for line in outcome.output.splitlines() if "input" in line]
    assert line.split() == ["input", "billed", "250", "ledger", "200", "differs"]
    assert "1 are estimated, 0 have no price" in outcome.output


@pytest.mark.parametrize(("tolerance", "code"), [("0", 3), ("4.9", 3), ("5", 0), ("100", 0)])
async def test_tolerance_is_percent_of_the_larger_side(
    environment: Mapping[str, str], tmp_path: Path, tolerance: str, code: int
) -> None:
    rows = [good_rows()[0].replace(",200,", ",190,"), good_rows()[1]]
    outcome = await run(environment, bill(tmp_path, *rows), "--tolerance", tolerance)
    assert outcome.exit_code == code, outcome.output


async def test_what_only_one_side_knows_differs(environment: Mapping[str, str], tmp_path: Path) -> None:
    outcome = await run(environment, bill(tmp_path, *good_rows(), f"{DAYS[0]},gpt-5,1,1,0,1"), "--json")
    assert outcome.exit_code == 3
    [line] = json.loads(outcome.stdout)
    assert (line["model"], line["billed"]["input"], line["ledger"]["input"]) == ("gpt-5", 1, 0)
    missing = await run(environment, bill(tmp_path, good_rows()[0]), "--until", str(DAYS[1] + timedelta(days=1)))
    assert missing.exit_code == 3
    assert str(DAYS[1]) in missing.output


async def test_costs_are_compared_where_the_bill_has_them(environment: Mapping[str, str], tmp_path: Path) -> None:
    header = "start_time_iso,amount_value,line_item\n"
    row = f'{DAYS[0]},0.000054,"gpt-4o-mini-2024-07-18, input"'
    assert (await run(environment, bill(tmp_path, row, header=header))).exit_code == 0
    whole_day = await run(environment, bill(tmp_path, f"{DAYS[0]},0.000054,", header=header), "--all")
    assert (whole_day.exit_code, "(all models)  agrees" in whole_day.output) == (0, True)
    outcome = await run(environment, bill(tmp_path, f"{DAYS[1]},0.5,gpt-4o-mini", header=header))
    assert outcome.exit_code == 3
    assert "1 have no price" in outcome.output


async def test_other_bills_are_read_by_flags(environment: Mapping[str, str], tmp_path: Path) -> None:
    text = bill(tmp_path, f"{DAYS[0]};mine;150;50;40", header="date;deployment;fresh;reused;made\n")
    columns = ["--day-column", "date", "--model-column", "deployment", "--input-column", "fresh"]
    columns += ["--input-column", "reused", "--output-column", "made", "--model", "mine=gpt-4o-mini"]
    outcome = await run(environment, text, *columns)
    assert outcome.exit_code == 0, outcome.output


async def test_malformed_bill_exits_with_two_and_its_place(environment: Mapping[str, str], tmp_path: Path) -> None:
    outcome = await run(environment, bill(tmp_path, good_rows()[0], f"{DAYS[1]},gpt-4o-mini,1,lots,0,1"))
    assert outcome.exit_code == 2
    assert "bill.csv, line 3, column 'input_tokens': 'lots' is not a number" in outcome.output
    assert (await run(environment, str(tmp_path / "gone.csv"))).exit_code == 2
    assert (await run(environment, bill(tmp_path))).exit_code == 2
    no_day = await run(environment, bill(tmp_path, *good_rows()), "--input-column", "input_tokens")
    assert (no_day.exit_code, "--day-column" in no_day.output) == (2, True)


@pytest.mark.parametrize(
    "arguments", [["--delimiter", "ab"], ["--model", "a"], ["--tolerance", "-1"], ["--format", "x"]]
)
async def test_wrong_flags_exit_with_two(environment: Mapping[str, str], tmp_path: Path, arguments: list[str]) -> None:
    assert (await run(environment, bill(tmp_path, *good_rows()), *arguments)).exit_code == 2


async def test_unreadable_ledger_is_not_reported_as_difference(
    environment: Mapping[str, str], empty_database: str, tmp_path: Path
) -> None:
    away = {**environment, "PLATFORM_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    command: list[Any] = ["usage", "reconcile", bill(tmp_path, *good_rows())]
    outcome = await asyncio.to_thread(CliRunner().invoke, app, command, env=away)
    assert outcome.exit_code == 1
    assert "The database cannot be used: it refuses connections" in str(outcome.exception)


async def test_usage_without_a_command_still_shows_sums(environment: Mapping[str, str]) -> None:
    outcome = await asyncio.to_thread(CliRunner().invoke, app, ["usage", "--format", "csv"], env=dict(environment))
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stdout.startswith("day,model,requests")
