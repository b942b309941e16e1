"""Fuzzed requests over keys, headers and bodies: no 500, no key let in, no record lost."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from platform_app.db import migrations
from tests.attacks.fuzz import fuzzed
from tests.attacks.raw_http import Address, Response, exchange
from tests.conftest import Platform
from tests.support.gateway.process import Gateway

REQUESTS = int(os.environ.get("ATTACKS_FUZZ_REQUESTS", "1500"))
"""The long form is 10,000."""
SEED = int(os.environ.get("ATTACKS_FUZZ_SEED", "10"))
_CLIENTS = 8
_RECORDED_SECONDS = 60.0

pytestmark = [pytest.mark.proof, pytest.mark.timeout(900)]


@pytest.fixture
def recorded(platform: Platform, postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[tuple[Gateway, Platform]]:
    """A gateway with a dedicated database, so that every record in it comes from this test."""
    postgres.create_database("fuzz")
    url = postgres.url("fuzz")
    migrations.upgrade(url)
    environment = {**platform.environment, "PLATFORM_DATABASE_URL": url}
    gateway = Gateway(environment, tmp_path)
    yield gateway, Platform(environment)
    postgres.drop_database("fuzz")


async def test_fuzzed_requests_bring_no_500_and_lose_no_record(
    recorded: tuple[Gateway, Platform], show_figure: Callable[[str], None]
) -> None:
    """Every response of the application is one access decision, or is counted in one; refusals of the server's own are
    none."""
    gateway, platform = recorded
    key = platform.key("platform:chat", "platform:embeddings")
    with gateway:
        wrong, statuses, served, ended = await asyncio.to_thread(_send_all, ("127.0.0.1", gateway.port), key)
        errors = [line for line in gateway.log_lines() if line.get("level") in ("error", "critical")]
    show_figure(f"{REQUESTS} fuzzed requests: {dict(sorted(statuses.items()))}, {ended} ended without a response")
    assert not wrong, "\n".join(wrong[:20])
    assert errors == []
    assert {200, 401, 400, 422} <= statuses.keys(), "the fuzz would prove nothing"

    with gateway:  # what the first run left in its spool is taken over by the second
        decisions = await _decisions(platform.environment["PLATFORM_DATABASE_URL"], at_least=len(served))

    assert len(served) <= sum(decisions.values()) <= len(served) + ended
    assert [one for one, status in served.items() if status == 200 and one not in decisions] == []


def _send_all(address: Address, key: str) -> tuple[list[str], Counter[int], dict[str, int], int]:
    """Return faults, responses by status, the application's responses by request id, and how many got none."""
    wrong: list[str] = []
    statuses: Counter[int] = Counter()
    served: dict[str, int] = {}
    ended = 0
    with ThreadPoolExecutor(_CLIENTS) as pool:
        for number, response in enumerate(pool.map(lambda number: _send(address, key, number), range(REQUESTS))):
            if response is None:
                ended += 1
                continue
            request = fuzzed(SEED, number, key)
            statuses[response.status] += 1
            if response.status == 500 or (response.status < 400 and not request.may_enter):
                wrong.append(f"request {number}: {response.status} for {request.data[:300]!r}")
            if response.request_id == request.request_id:
                served[request.request_id] = response.status
    return wrong, statuses, served, ended


def _send(address: Address, key: str, number: int) -> Response | None:
    request = fuzzed(SEED, number, key)
    received = exchange(address, [request.data], [request.method])
    assert received.closed, f"request {number} did not end: {request.data[:300]!r}"
    return received.responses[0] if received.responses else None


async def _decisions(url: str, at_least: int) -> Counter[str]:
    """Return the recorded requests by id, once there are enough."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        async with asyncio.timeout(_RECORDED_SECONDS):
            while True:
                rows = await connection.fetch("SELECT * FROM access_decisions")
                found: Counter[str] = Counter()
                for row in rows:
                    found[row["request_id"]] += dict(row).get("count") or 1
                if found.total() >= at_least:
                    return found
                await asyncio.sleep(0.1)
    finally:
        await connection.close()
