"""A Redis that freezes under load, seen from outside the gateway: no request is refused or hangs, and Redis is used
again."""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from tests.conftest import Platform
from tests.support.gateway.http import metric, until
from tests.support.gateway.process import Gateway
from tests.support.servers.valkey import own_server
from tests.support.timing.responsive_time import ResponsiveTime, responsive_time

pytestmark = pytest.mark.proof

CLIENTS = 4
FREEZE_SECONDS, HANG_SECONDS = 5, 2
"""No timing of this machine: what waits for Redis waits for as long as the freeze lasts."""


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedValkey]:
    with own_server() as server:
        yield server


@dataclass
class Load:
    """Chat requests one after the other by a few clients, and one client that calls the probes."""

    gateway: Gateway
    key: str
    spent: ResponsiveTime
    chats: list[tuple[float, float, int]] = field(default_factory=list)
    """When each began, what it took in milliseconds of `spent`, its status."""
    probes: set[tuple[str, int]] = field(default_factory=set)

    async def run(self, client: httpx.AsyncClient, stopping: asyncio.Event) -> None:
        await asyncio.gather(*(self._chat(client, stopping) for _ in range(CLIENTS)), self._probe(client, stopping))

    async def _chat(self, client: httpx.AsyncClient, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            began, before = time.monotonic(), self.spent.seconds
            headers = {"Authorization": f"Bearer {self.key}"}
            answer = await client.post(self.gateway.chat_url, json={"prompt": "hi"}, headers=headers)
            self.chats.append((began, 1000 * (self.spent.seconds - before), answer.status_code))
            await asyncio.sleep(0.03)

    async def _probe(self, client: httpx.AsyncClient, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            for path in ("/livez", "/readyz"):
                self.probes.add((path, (await client.get(f"{self.gateway.base_url}{path}")).status_code))
            await asyncio.sleep(0.1)

    def took(self, start: float, end: float) -> list[float]:
        return [took for began, took, _ in self.chats if start <= began < end]


async def degraded_becomes(gateway: Gateway, expected: int, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        # In a thread: it would hold up the load, and the provider that lives in this loop.
        while metric(await asyncio.to_thread(gateway.metrics), "platform_limiter_degraded") != expected:
            await asyncio.sleep(0.05)


async def test_frozen_redis_under_load_fails_no_request(
    platform: Platform, own_valkey: EmbeddedValkey, tmp_path: Path, show_figure: Callable[[str], None]
) -> None:
    """With rules that degrade, which is the default; `closed` ones are test_http_limits's."""
    environment = {**platform.environment, "PLATFORM_REDIS_URL": own_valkey.url, "PLATFORM_REDIS_TIMEOUT_MS": "50"}
    stopping = asyncio.Event()
    with Gateway(environment, tmp_path) as gateway:
        async with httpx.AsyncClient(trust_env=False, timeout=300) as client, responsive_time() as spent:
            load = Load(gateway, platform.key(), spent)
            running = asyncio.create_task(load.run(client, stopping))
            await asyncio.sleep(2)
            await until(lambda: len(load.chats) > 10)
            own_valkey.pause()
            frozen = time.monotonic()
            try:
                await degraded_becomes(gateway, 1, 60)
                await asyncio.sleep(frozen + FREEZE_SECONDS - time.monotonic())
                meanwhile = len(load.took(frozen, time.monotonic()))
            finally:
                own_valkey.resume()
            resumed = spent.seconds
            await degraded_becomes(gateway, 0, 60)
            recovered = spent.seconds - resumed
            stopping.set()
            await running
    before, second = load.took(0, frozen - 0.05), load.took(frozen + 1, frozen + FREEZE_SECONDS)
    slowest = max(load.took(frozen - 0.05, time.monotonic()))
    show_figure(
        f"milliseconds of a chat, median: before {statistics.median(before):.1f}, in the outage after a second "
        f"{statistics.median(second):.1f}; slowest before {max(before):.0f}, since {slowest:.0f}; "
        f"recovered after {recovered:.2f} s"
    )
    assert {status for _, _, status in load.chats} == {200}
    assert load.probes == {("/livez", 200), ("/readyz", 200)}
    assert meanwhile > CLIENTS
    assert slowest < max(before) + 1000 * HANG_SECONDS
