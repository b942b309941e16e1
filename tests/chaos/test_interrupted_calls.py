"""A worker that is killed during a call leaves an estimate in the usage and in the limits. A worker that was only
frozen leaves neither an estimate nor a second charge."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import yaml
from redis.asyncio import Redis

from apps.platform_cli.embedded import processes
from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.provider_simulator.server import ProviderSimulator
from platform_app.config import load_config
from platform_app.db import migrations
from platform_app.ledger.spool.pending import read_pending
from platform_app.rate_limit.matching import LimitedRequest, RuleBook
from platform_app.rate_limit.reservations import RESERVATION_SECONDS
from tests.conftest import Platform
from tests.support.gateway.http import until
from tests.support.gateway.process import Gateway, write_config
from tests.support.ledger.usage.totals import differences

pytestmark = pytest.mark.proof

RULES = [
    {"name": "hourly-tokens", "scope": "key", "unit": "tokens", "limit": 1_000_000, "window_seconds": 3600},
    {"name": "daily", "scope": "owner", "unit": "cost_usd", "limit": 100, "window": "day", "time_zone": "UTC"},
    {"name": "at-once", "scope": "key", "unit": "concurrent", "limit": 50},
]
PROMPT_TOKENS, MAX_TOKENS = 6, 50
"""Of `BODY`: four for the message and two for its text."""
ESTIMATED_TOKENS = PROMPT_TOKENS + MAX_TOKENS
ESTIMATED_MICROUSD = PROMPT_TOKENS * 1 + MAX_TOKENS * 2
BODY: Mapping[str, Any] = {"prompt": "Hello", "max_tokens": MAX_TOKENS}
MODELS = ("sim-ok", "sim-hang", "sim-stream-hang", "sim-delay-3000")


@dataclass
class Stage:
    """A gateway with its own database, and what it counted and recorded."""

    gateway: Gateway
    platform: Platform
    simulator: ProviderSimulator

    @property
    def spool(self) -> Path:
        return Path(self.platform.environment["PLATFORM_SPOOL_DIR"])

    def workers(self) -> list[int]:
        """Workers that opened their spool."""
        assert self.gateway.child is not None
        locks = {int(name.partition("-")[0]) for name in os.listdir(self.spool) if name.endswith(".lock")}
        return [pid for pid in processes.descendants(self.gateway.child.pid) if pid in locks]

    async def call(self, key: str, model: str, **fields: Any) -> httpx.Response:
        async with httpx.AsyncClient(timeout=300, trust_env=False) as client:
            headers = {"Authorization": f"Bearer {key}"}
            return await client.post(self.gateway.chat_url, headers=headers, json={**BODY, "model": model, **fields})

    async def begin(self, key: str, model: str, count: int = 1, **fields: Any) -> list[asyncio.Task[httpx.Response]]:
        """Calls that have reached the provider."""
        before = self.simulator.count(model)
        tasks = [asyncio.create_task(self.call(key, model, **fields)) for _ in range(count)]
        await until(lambda: self.simulator.count(model) >= before + count, 20)
        return tasks

    async def records(self, key_id: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.platform.environment["PLATFORM_DATABASE_URL"].replace("+asyncpg", ""))
        try:
            return list(await connection.fetch("SELECT * FROM usage_records WHERE key_id = $1", key_id))
        finally:
            await connection.close()

    async def recorded(self, key_id: str, count: int) -> list[asyncpg.Record]:
        """So many records of a key, once they are there; and a while later there are no more."""
        async with asyncio.timeout(300):
            while len(await self.records(key_id)) < count:
                await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        return await self.records(key_id)

    async def counted(self, key_id: str, owner: str) -> dict[str, tuple[int, int]]:
        """Of each rule what was used and what is reserved."""
        book = RuleBook(load_config(self.platform.settings()).rate_limits.rules)
        charges = book.charges(LimitedRequest(key_id, owner, "/v1/platform/chat", "sim-ok"))
        redis = Redis.from_url(self.platform.environment["PLATFORM_REDIS_URL"])
        try:
            found = {each.rule.name: await redis.hmget(each.counter, ["t", "H"]) for each in charges}
        finally:
            await redis.aclose()
        return {name: (int(used or 0), int(held or 0)) for name, (used, held) in found.items()}


@pytest.fixture(scope="module")
async def stage(
    platform: Platform,
    postgres: EmbeddedPostgres,
    simulator: ProviderSimulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stage]:
    directory = tmp_path_factory.mktemp("interrupted")
    await asyncio.to_thread(postgres.create_database, "interrupted")
    url = postgres.url("interrupted")
    await asyncio.to_thread(migrations.upgrade, url)
    price = {"input_usd_per_million": 1, "output_usd_per_million": 2}
    config = write_config(directory / "platform.yaml", simulator.base_url, rate_limits={"rules": RULES})
    content = yaml.safe_load(config.read_text())
    content["models"] = {
        name: {"routes": [{"provider": "simulator", "model": name, "price": price}]} for name in MODELS
    }
    config.write_text(yaml.safe_dump(content))
    environment = {
        **platform.environment,
        "PLATFORM_DATABASE_URL": url,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_SPOOL_DIR": str(directory / "spool"),
        "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS": "120",
        "PLATFORM_PROVIDER_TOTAL_TIMEOUT_SECONDS": "120",
    }
    gateway = Gateway(environment, directory, workers=2)
    await asyncio.to_thread(gateway.start)
    try:
        yield Stage(gateway, Platform(environment), simulator)
    finally:
        await asyncio.to_thread(gateway.stop)
    wrong = await differences(url)
    assert wrong == []
    assert not [name for name in os.listdir(directory / "spool") if not name.endswith(".lock")]


@contextlib.contextmanager
def given_up(tasks: list[asyncio.Task[httpx.Response]]) -> Iterator[None]:
    """Cancel the calls at the end."""
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


@pytest.mark.parametrize("stream", [False, True])
async def test_killed_worker_leaves_estimates_of_its_calls(stage: Stage, stream: bool) -> None:
    """Three calls run, two were over before: five records, and the limits count what those used and these may use."""
    owner = f"killed-{stream}"
    record, key = await asyncio.to_thread(lambda: stage.platform.new_key("platform:chat", owner=owner))
    over = [await stage.call(key, "sim-ok") for _ in range(2)]
    used = sum(each.json()["usage"]["total_tokens"] for each in over)
    await until(lambda: len(stage.workers()) == 2, 30)
    with given_up(await stage.begin(key, "sim-stream-hang" if stream else "sim-hang", 3, stream=stream)):
        assert (await stage.counted(record.key_id, owner))["hourly-tokens"] == (used, 3 * ESTIMATED_TOKENS)
        for worker in stage.workers():
            os.kill(worker, signal.SIGKILL)
        rows = await stage.recorded(record.key_id, 5)
    estimates = [row for row in rows if row["estimated"]]
    assert (len(rows), len(estimates)) == (5, 3)
    for row in estimates:
        assert (row["outcome"], row["prompt_tokens"], row["completion_tokens"], row["cost_microusd"]) == (
            "interrupted", PROMPT_TOKENS, MAX_TOKENS, ESTIMATED_MICROUSD
        )  # fmt: skip
        assert (row["stream"], row["owner"], row["attempts"]) == (stream, owner, 1)
    cost = sum(row["cost_microusd"] for row in rows if not row["estimated"]) + 3 * ESTIMATED_MICROUSD
    expected = {"hourly-tokens": (used + 3 * ESTIMATED_TOKENS, 0), "daily": (cost, 0), "at-once": (0, 0)}
    async with asyncio.timeout(300):
        while (found := await stage.counted(record.key_id, owner)) != expected:
            await asyncio.sleep(0.2)
    await asyncio.sleep(5)  # two rounds of adoption later
    assert (await stage.counted(record.key_id, owner), len(await stage.records(record.key_id))) == (found, 5)
    assert (await stage.call(key, "sim-ok")).status_code == 200, "a new worker serves"


async def test_frozen_worker_doubles_nothing_when_it_continues(stage: Stage) -> None:
    """It is frozen for longer than its reservations live, while the other worker looks for orphans."""
    record, key = await asyncio.to_thread(lambda: stage.platform.new_key("platform:chat", owner="frozen"))
    await until(lambda: len(stage.workers()) == 2, 30)
    assert stage.gateway.child is not None
    [task] = await stage.begin(key, "sim-delay-3000")
    # The parent too: it has no part in this, and must not take a frozen worker for a hung one.
    holder = next(pid for pid in stage.workers() if _has_pending(stage.spool, pid))
    frozen = [stage.gateway.child.pid, holder]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(RESERVATION_SECONDS + 5)
        assert await stage.records(record.key_id) == [], "nobody took its call for interrupted"
    finally:
        os.kill(holder, signal.SIGCONT)
        response = await task
        os.kill(stage.gateway.child.pid, signal.SIGCONT)
    assert response.status_code == 200
    tokens = response.json()["usage"]["total_tokens"]
    [row] = await stage.recorded(record.key_id, 1)
    assert (row["outcome"], row["estimated"], row["prompt_tokens"] + row["completion_tokens"]) == ("ok", False, tokens)
    expected = {"hourly-tokens": (tokens, 0), "daily": (row["cost_microusd"], 0), "at-once": (0, 0)}
    async with asyncio.timeout(300):
        while await stage.counted(record.key_id, "frozen") != expected:
            await asyncio.sleep(0.2)


def _has_pending(spool: Path, pid: int) -> bool:
    """Whether a call of this worker is under way."""
    found = [read_pending(path) for path in spool.glob(f"{pid}-*.pending")]
    return any(left is not None and left.lines for left in found)
