"""Four workers of which one is killed and one hangs: what the metrics port shows of them."""

import asyncio
import os
import re
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from tests.conftest import Platform
from tests.support.gateway.http import Connection, connect, metric, until, workers
from tests.support.gateway.process import Gateway

CONNECTIONS = 24
REQUEST = b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n\r\n"
_SAMPLE = re.compile(r"^(\w+(?:_total|_count|_sum|_bucket)(?:\{.*\})?) (\S+)$", re.M)


def counters(text: str) -> dict[str, float]:
    return {series: float(value) for series, value in _SAMPLE.findall(text)}


class Scrapes:
    """Scrapes a gateway, and notes every counter that fell or disappeared."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._last: dict[str, float] = {}
        self.fallen: list[str] = []

    def value(self, name: str, **labels: str) -> float:
        text = self._gateway.metrics()
        now = counters(text)
        self.fallen += [series for series, value in self._last.items() if now.get(series, -1.0) < value]
        self._last = now
        return metric(text, name, **labels)


def counters_of(directory: Path) -> set[str]:
    """Return whose files of counters there are; those of dead workers are added up in one."""
    return {file.stem.removeprefix("counter_") for file in directory.glob("flowbiz-platform-metrics-*/counter_*.db")}


async def responds(connection: Connection) -> bool:
    """Send a request without a key; whether a response came, which is not so if its worker is dead."""
    try:
        await connection.send(REQUEST)
        status, _, _ = await connection.answer()
    except (OSError, asyncio.IncompleteReadError):
        return False
    assert status == 401
    return True


async def test_counters_survive_dead_and_hung_workers(platform: Platform, tmp_path: Path) -> None:
    """Gauges leave the dead workers out: the connections that count are those that are still open."""
    environment = {**platform.environment, "PLATFORM_WORKER_TIMEOUT_SECONDS": "5", "TMPDIR": str(tmp_path)}
    async with AsyncExitStack() as stack:
        gateway = stack.enter_context(Gateway(environment, tmp_path, workers=4))
        scrapes = Scrapes(gateway)
        await until(lambda: scrapes.value("platform_workers_ready") == 4)
        assert scrapes.value("platform_workers_configured") == 4
        connections = [await stack.enter_async_context(connect(gateway)) for _ in range(CONNECTIONS)]
        for connection in connections:
            assert await responds(connection)
        await until(lambda: scrapes.value("platform_http_connections") == CONNECTIONS)
        denied = {"route": "/v1/models", "outcome": "denied"}
        assert scrapes.value("platform_requests_total", **denied) == CONNECTIONS

        killed, stopped, *_ = workers(gateway)
        os.kill(killed, signal.SIGKILL)
        os.kill(stopped, signal.SIGSTOP)
        await until(lambda: scrapes.value("platform_worker_restarts_total", reason="died") == 1)
        await until(lambda: scrapes.value("platform_worker_restarts_total", reason="hung") == 1)
        await until(lambda: scrapes.value("platform_workers_ready") == 4)
        assert not {killed, stopped} & set(workers(gateway))
        assert scrapes.value("platform_requests_total", **denied) == CONNECTIONS

        left = sum([await responds(connection) for connection in connections])
        await until(lambda: scrapes.value("platform_http_connections") == left)
        assert scrapes.value("platform_requests_total", **denied) == CONNECTIONS + left
        assert scrapes.fallen == []
        assert counters_of(tmp_path) <= {"dead", *map(str, workers(gateway))}


async def test_metrics_of_a_worker_are_shown_soon_without_setting(platform: Platform, tmp_path: Path) -> None:
    """By default a worker writes its metrics ten times a second, and the parent reads them once a second."""
    environment = {**platform.environment}
    del environment["PLATFORM_METRICS_CACHE_SECONDS"]
    with Gateway(environment, tmp_path) as gateway:
        async with connect(gateway) as connection:
            await connection.send(REQUEST)
            assert (await connection.answer())[0] == 401
        await until(lambda: metric(gateway.metrics(), "platform_overhead_seconds_count", route="/v1/models") == 1)
        assert metric(gateway.metrics(), "platform_requests_total", route="/v1/models", outcome="denied") == 1
        await until(lambda: metric(gateway.metrics(), "platform_event_loop_lag_seconds_count") > 1)
        await until(lambda: metric(gateway.metrics(), "platform_worker_resident_bytes") > 1e6)
        await until(lambda: metric(gateway.metrics(), "platform_schema_at_head") == 1)
