"""Usage over HTTP and on the command line: the same figures, and what is refused."""

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from apps.platform_cli.main import app
from platform_app.errors import ValidationFailed
from platform_app.ledger.events.codecs import dollars
from platform_app.ledger.service import open_ledger
from platform_app.ledger.shipping.batch import batch_of
from platform_app.ledger.shipping.shipper import Shipper
from tests.conftest import Platform
from tests.support.gateway.process import Gateway
from tests.support.ledger.database import connected, session_on, settings_for
from tests.support.ledger.events import usage
from tests.support.ledger.usage.totals import totals_are_the_sum
from tests.support.ledger.usage.varied import NOON, expected, sums, varied

EXPORT_ROWS = int(os.environ.get("USAGE_EXPORT_ROWS", "30000"))
TODAY = datetime.now(UTC).date()


async def test_any_key_reads_its_own_usage_and_no_other(
    gateway: Gateway, platform: Platform, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """With no scope for usage: its own key's records, whatever is asked for."""
    owner = f"own-{time.time_ns()}"
    record, key = await asyncio.to_thread(platform.new_key, "platform:chat", owner=owner)
    other, _ = await asyncio.to_thread(platform.new_key, "platform:chat", owner=owner)
    mine = [replace(one, owner=owner, key_id=record.key_id) for one in varied(20, seed=5)]
    theirs = [replace(one, owner=owner, key_id=other.key_id) for one in varied(10, seed=6)]
    async with open_ledger(settings_for(platform.environment["PLATFORM_DATABASE_URL"], spool_dir=tmp_path)) as ledger:
        for each in (*mine, *theirs):
            ledger.append(each)
    url, headers = f"{gateway.base_url}/v1/platform/usage", {"Authorization": f"Bearer {key}"}

    async def ask(**params: Any) -> httpx.Response:
        return await client.get(url, headers=headers, params=params)

    own = (await ask(group_by=["model", "key"])).json()
    assert (own["data"], own["totals"]) == (expected(mine, ("model", "key")), sums(mine))
    assert (await ask(group_by=["model", "key"], key_id=record.key_id, owner=owner)).json() == own
    first = (await ask(limit=1)).json()
    second = (await ask(cursor=first["next_cursor"])).json()
    assert first["data"] + second["data"] == expected(mine, ("day", "model"))
    for refused in ({"key_id": other.key_id}, {"owner": "tests"}, {"key_id": ""}, {"owner": ""}):
        response = await ask(**refused)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "insufficient_scope"), refused
    reader = await asyncio.to_thread(platform.key, "platform:usage:read", owner=owner)
    everything = await client.get(url, headers={"Authorization": f"Bearer {reader}"}, params={"group_by": "model"})
    assert everything.json()["totals"] == sums([*mine, *theirs])


async def test_http_and_command_line_report_the_same(
    gateway: Gateway, platform: Platform, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    owner = f"usage-{time.time_ns()}"
    mine = [replace(record, owner=owner) for record in varied(60, seed=3)]
    async with open_ledger(settings_for(platform.environment["PLATFORM_DATABASE_URL"], spool_dir=tmp_path)) as ledger:
        for record in mine:
            ledger.append(record)
    reader = {"Authorization": f"Bearer {await asyncio.to_thread(platform.key, 'platform:usage:read', owner=owner)}"}
    url = f"{gateway.base_url}/v1/platform/usage"

    answer = await client.get(url, headers=reader, params={"owner": owner, "group_by": ["model", "key"]})
    assert answer.status_code == 200, answer.text
    assert answer.headers["ratelimit-policy"]
    whole = answer.json()
    assert whole["data"] == expected(mine, ("model", "key"))
    assert whole["totals"] == sums(mine)
    default = (await client.get(url, headers=reader, params={"owner": owner})).json()
    assert default["data"] == expected(mine, ("day", "model"))
    first = (await client.get(url, headers=reader, params={"owner": owner, "limit": 1})).json()
    second = await client.get(url, headers=reader, params={"owner": owner, "cursor": first["next_cursor"]})
    assert first["data"] + second.json()["data"] == default["data"]

    unfiltered = (await client.get(url, headers=reader, params={"group_by": ["model", "key"]})).json()
    assert unfiltered == whole, "without platform:* the caller's owner is the only one"
    foreign = {"Authorization": f"Bearer {await asyncio.to_thread(platform.key, 'platform:usage:read')}"}
    nothing = (await client.get(url, headers=foreign, params={"owner": owner})).json()
    assert (nothing["data"], nothing["totals"]["requests"], nothing["next_cursor"]) == ([], 0, None)
    admin = {"Authorization": f"Bearer {await asyncio.to_thread(platform.key, 'platform:*')}"}
    assert (await client.get(url, headers=admin, params={"owner": owner, "group_by": ["model", "key"]})).json() == whole

    ask = ["usage", "--owner", owner, "--group-by", "model", "--group-by", "key"]
    told = json.loads(await cli(platform, *ask, "--format", "json"))
    assert told == {name: value for name, value in whole.items() if name != "next_cursor"}
    rows = list(csv.DictReader(io.StringIO(await cli(platform, *ask, "--format", "csv"))))
    assert rows == [{name: "" if v is None else str(v) for name, v in group.items()} for group in whole["data"]]
    lines = (await cli(platform, *ask)).splitlines()
    assert (
        " ".join(lines[0].split())
        == "model key_id requests errors tokens in cached tokens out cost USD no price mean ms"
    )
    assert [line.split()[:2] for line in lines[1:5]] == [[g["model"], g["key_id"]] for g in whole["data"]]
    assert lines[5].split()[:2] == ["total", "60"]
    assert whole["totals"]["cost_usd"] in lines[5]
    records = [json.loads(line) for line in (await cli(platform, "usage", "--owner", owner, "--records")).splitlines()]
    newest_first = sorted(mine, key=lambda record: (record.occurred_at, record.event_id), reverse=True)
    assert [record["id"] for record in records] == [record.event_id for record in newest_first]
    assert sum(record["prompt_tokens"] for record in records) == whole["totals"]["prompt_tokens"]
    assert [record["cost_usd"] for record in records] == [
        None if each.cost_microusd is None else dollars(each.cost_microusd) for each in newest_first
    ]


async def invoke(platform: Platform, *arguments: str) -> Result:
    """Run the command; in a thread, because it runs its own event loop."""
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=dict(platform.environment))


async def cli(platform: Platform, *arguments: str, code: int = 0) -> str:
    """What the command prints."""
    outcome = await invoke(platform, *arguments)
    assert outcome.exit_code == code, outcome.output
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit | ValidationFailed)
    return outcome.stdout


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("group_by=tenant", "group_by"),
        ("since=yesterday", "since"),
        ("since=1700000000", "since"),
        ("since=2026-13-01", "since"),
        ("until=2026-11-23T00:00:00Z", "until"),
        ("since=2026-02-01&until=2026-02-01", "since"),
        ("since=2001-01-01&until=2026-01-01", "since"),
        ("until=1999-12-31", "until"),
        ("until=9999-12-31", "until"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
        ("owner=a%00b", "owner"),
        ("model=" + "x" * 201, "model"),
    ],
)
async def test_http_names_what_is_wrong(
    gateway: Gateway, platform: Platform, client: httpx.AsyncClient, query: str, names: str
) -> None:
    reader = {"Authorization": f"Bearer {await asyncio.to_thread(platform.key, 'platform:usage:read')}"}
    answer = await client.get(f"{gateway.base_url}/v1/platform/usage?{query}", headers=reader)
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["code"] == "validation_error"
    assert any(detail.startswith(names) for detail in error["details"]), error


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (("--since", "yesterday"), 2, "--since"),
        (("--group-by", "tenant"), 1, "group_by"),
        (("--records", "--format", "csv"), 2, "--format"),
        (("--since", "2026-02-01", "--until", "2026-02-01"), 1, "since"),
    ],
)
async def test_command_line_refuses_invalid_query(
    platform: Platform, arguments: tuple[str, ...], code: int, problem: str
) -> None:
    outcome = await invoke(platform, "usage", *arguments)
    assert (outcome.exit_code, outcome.stdout) == (code, ""), "nothing on stdout"
    assert problem in " ".join([outcome.stderr, *(getattr(outcome.exception, "details", None) or ())])


async def test_export_of_many_records_takes_bounded_memory(own_url: str) -> None:
    async with session_on(own_url) as session, connected(own_url) as connection:
        assert await Shipper(session).ship(batch_of([usage(occurred_at=NOON)])) == []
        await connection.execute(
            "INSERT INTO usage_records SELECT occurred_at - make_interval(secs => n / 100), gen_random_uuid(), "
            "trace_id, cost_microusd, prompt_tokens, completion_tokens, cached_tokens, duration_ms, first_token_ms, "
            "attempts, stream, estimated, request_id, key_id, owner, route, provider, model, upstream_model, outcome "
            "FROM usage_records, generate_series(1, $1) n",
            EXPORT_ROWS,
        )
    await totals_are_the_sum(own_url, EXPORT_ROWS + 1)
    program = (
        "import resource, sys\n"
        "from datetime import date\n"
        "from apps.platform_cli.usage.command import print_records\n"
        "from platform_app.ledger.reading.usage_query import UsageFilter\n"
        "print_records(UsageFilter(since=date(2020, 1, 1), until=date(2020, 1, 2)))\n"
        "print_records(UsageFilter(model='none'))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print_records(UsageFilter())\n"
        "sys.stderr.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))\n"
    )
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PLATFORM_DATABASE_URL": own_url,
        "PLATFORM_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], env=environment, capture_output=True, timeout=300, check=True
    )
    assert len({json.loads(line)["id"] for line in done.stdout.splitlines()}) == EXPORT_ROWS + 1
    assert int(done.stderr) < 16 * 1024, f"{EXPORT_ROWS} records took {done.stderr!r} KiB more than none"
