"""Requests without a key beyond the bound: few rows, and sums that are exact whatever ends the worker."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from platform_app.db import migrations
from platform_app.db.engine import make_engine
from platform_app.ledger.reading.audit import AuditFilter, AuditReader
from platform_app.ledger.service import open_ledger
from platform_app.ledger.shipping.batch import batch_of
from platform_app.ledger.shipping.shipper import Shipper
from tests.conftest import Platform
from tests.support.gateway.http import live_workers, metric
from tests.support.gateway.process import Gateway
from tests.support.ledger.database import connected, session_on, settings_for
from tests.support.ledger.events import access
from tests.support.ledger.versions import ADDED_BY_0007, ADDED_BY_0008, EarlierShipper
from tests.support.timing.apart import run_apart

BOUND = 5
OUTCOMES = 4
"""Of `_request`: 401 without and with a wrong key, 404, 405."""


@pytest.fixture
def counting(
    platform: Platform, postgres: EmbeddedPostgres, tmp_path: Path
) -> Iterator[tuple[Gateway, Mapping[str, str]]]:
    """A gateway with one worker and a low bound, and its own database."""
    name = f"counts_{tmp_path.name}".replace("-", "_").lower()[:60]
    postgres.create_database(name)
    run_apart(lambda: asyncio.to_thread(migrations.upgrade, postgres.url(name)))
    environment = {
        **platform.environment,
        "PLATFORM_DATABASE_URL": postgres.url(name),
        "PLATFORM_SPOOL_DIR": str(tmp_path / "spool"),
        "PLATFORM_REFUSALS_PER_ADDRESS_PER_MINUTE": str(BOUND),
        "PLATFORM_TRUSTED_PROXIES": "127.0.0.1",
    }
    gateway = Gateway(environment, tmp_path).start()
    yield gateway, environment
    gateway.stop()
    postgres.drop_database(name)


async def refused(gateway: Gateway, count: int, addresses: list[str]) -> Counter[int]:
    """Requests without a key of several kinds, from these addresses in turn; what they got, by status."""
    seen = Counter[int]()
    async with httpx.AsyncClient(timeout=300, trust_env=False, base_url=gateway.base_url) as client:
        for number in range(count):
            method, path, headers = _request(number)
            headers["X-Forwarded-For"] = addresses[number % len(addresses)]
            seen[(await client.request(method, path, headers=headers)).status_code] += 1
    return seen


def _request(number: int) -> tuple[str, str, dict[str, str]]:
    return [
        ("POST", "/v1/platform/chat", {}),
        ("POST", "/v1/platform/chat", {"Authorization": "Bearer nothing"}),
        ("GET", f"/nowhere/{number}", {"X-Request-ID": f"stranger-{number}"}),
        ("PUT", "/v1/meta", {}),
    ][number % 4]


async def rows_of(url: str, requests: int) -> list[asyncpg.Record]:
    """All decisions without a key, once they stand for so many requests."""
    async with connected(url) as connection, asyncio.timeout(300):
        while True:
            rows = list(await connection.fetch("SELECT * FROM access_decisions WHERE key_id IS NULL"))
            if sum(row["count"] for row in rows) >= requests:
                return rows
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("end", ["killed", "stopped"])
async def test_refusals_are_few_rows_and_add_up(
    counting: tuple[Gateway, Mapping[str, str]], end: str, platform: Platform
) -> None:
    """Also for a worker that is killed right after its last response: the counts are on disk by then."""
    gateway, environment = counting
    url, addresses = environment["PLATFORM_DATABASE_URL"], ["192.0.2.1", "2001:db8::1", "2001:db8::ffff"]
    seen = await refused(gateway, 400, addresses)
    assert seen == {401: 200, 404: 100, 405: 100}
    counted = metric(gateway.metrics(), "platform_ledger_counted_total", addresses="own")
    assert counted >= 400 - 2 * 2 * BOUND, "two addresses, in two minutes at most"
    assert gateway.child is not None
    if end == "killed":
        [worker] = live_workers(gateway)
        os.kill(worker, signal.SIGKILL)
    else:
        await asyncio.to_thread(gateway.stop)
    rows = await rows_of(url, 400)
    assert len(rows) <= 2 * 2 * (BOUND + OUTCOMES)
    sums = Counter[int]()
    for row in rows:
        sums[row["status"]] += row["count"]
    assert sums == seen
    many = [row for row in rows if row["count"] > 1]
    assert {str(row["client_address"]) for row in many} == {"192.0.2.1", "2001:db8::/64"}
    assert {row["reason"] for row in rows} == {
        "missing_credentials", "invalid_api_key", "not_found", "method_not_allowed"
    }  # fmt: skip
    if end == "stopped":
        lines = [line for line in gateway.log_lines() if line["event"] == "request" and line["status"] != 200]
        assert sum(line.get("count", 1) for line in lines) == 400, "probes aside, which are 200"
        assert len(lines) <= 2 * 2 * (BOUND + OUTCOMES)


async def test_requests_with_a_key_are_rows_of_their_own(counting: tuple[Gateway, Mapping[str, str]]) -> None:
    gateway, environment = counting
    key = await asyncio.to_thread(Platform(environment).key, "platform:models:read")
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(timeout=300, trust_env=False, base_url=gateway.base_url, headers=headers) as client:
        statuses = [(await client.get(path)).status_code for path in ["/v1/models", "/v1/platform/audit"] * BOUND * 2]
    assert Counter(statuses) == {200: 10, 403: 10}
    async with connected(environment["PLATFORM_DATABASE_URL"]) as connection, asyncio.timeout(300):
        while await connection.fetchval("SELECT count(*) FROM access_decisions WHERE key_id IS NOT NULL") < 20:
            await asyncio.sleep(0.1)
        assert await connection.fetchval("SELECT max(count) FROM access_decisions WHERE key_id IS NOT NULL") == 1


async def test_readers_show_how_many_requests_a_row_counts(empty_database: str, tmp_path: Path) -> None:
    await asyncio.to_thread(migrations.upgrade, empty_database)
    settings = settings_for(empty_database, spool_dir=tmp_path, refusals_per_address_per_minute=1)
    moment = access().occurred_at
    async with open_ledger(settings) as ledger:
        for number in range(9):
            ledger.append(access(key_id=None, client_address=f"2001:db8::{number}", status=401, occurred_at=moment))
    engine = make_engine(settings)
    try:
        while not (page := await AuditReader(engine).page(AuditFilter(kind="access"), only_owner=None)).entries:
            async with open_ledger(settings):  # the end of the first one waits only so long for the database
                await asyncio.sleep(0.2)
    finally:
        await engine.dispose()
    shown = sorted((entry["client_address"], entry["count"]) for entry in page.entries)
    assert shown == [("2001:db8::", 1), ("2001:db8::/64", 8)]


async def test_version_without_count_column_ships_during_upgrade(empty_database: str) -> None:
    """It neither loses an event nor writes one that stands for no request."""
    await asyncio.to_thread(migrations.upgrade, empty_database, "0004")
    async with session_on(empty_database) as session:
        before = EarlierShipper(session, "count", *ADDED_BY_0007, *ADDED_BY_0008)
        await before.ship([access()])
        await asyncio.to_thread(migrations.upgrade, empty_database, "0005")
        await before.ship([access(), access()])
        await asyncio.to_thread(migrations.upgrade, empty_database)
        assert await Shipper(session).ship(batch_of([access(count=40)])) == []
        async with connected(empty_database) as connection:
            assert await connection.fetchval("SELECT array_agg(count ORDER BY count) FROM access_decisions") == [
                1, 1, 1, 40
            ]  # fmt: skip


async def test_migration_behind_a_long_reader_fails_and_is_repeatable(empty_database: str) -> None:
    """Every writer would wait behind it."""
    await asyncio.to_thread(migrations.upgrade, empty_database, "0004")
    async with connected(empty_database) as reader, reader.transaction():
        await reader.fetchval("SELECT count(*) FROM access_decisions")
        with pytest.raises(Exception, match="lock timeout"):
            await asyncio.to_thread(migrations.upgrade, empty_database, "0005")
    await asyncio.to_thread(migrations.upgrade, empty_database, "0005")


def test_longest_fields_are_cut() -> None:
    """Whatever a client sends or a server lets through, a line has a bound."""
    names = ("request_id", "key_id", "method", "route", "reason", "client_address")
    long: dict[str, Any] = dict.fromkeys(names, "x" * 100_000)
    assert len(access(**long).line()) < 1400
