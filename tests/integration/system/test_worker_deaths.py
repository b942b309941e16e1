"""Four workers of which one is killed and one hangs: what the metrics port shows of them."""

import asyncio
import json
import os
import re
import signal
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, Platform
from tests.support.gateway.chat_routes import ROUTES, ChatRoute
from tests.support.gateway.http import Connection, connect, metric, until, workers
from tests.support.gateway.process import Gateway, write_catalog

CONNECTIONS = 24
CHATS = CONNECTIONS // len(ROUTES)
"""Requests on each of the chat routes."""
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


def files_of(directory: Path, kind: str) -> set[str]:
    """Return whose files of one kind of metric there are; counts of dead workers are added up in one file."""
    return {file.stem.rpartition("_")[2] for file in directory.glob(f"flowbiz-platform-metrics-*/{kind}_*.db")}


async def chat(connection: Connection, route: ChatRoute, key: str) -> None:
    """Send a request of a session, so that each feature that counts something counts on each worker."""
    content = json.dumps(route.body(model="balanced")).encode()
    fields = {
        "Host": "gateway",
        "X-API-Key": key,
        "X-Session-Id": "one",
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        **route.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    await connection.send(f"POST {route.path} HTTP/1.1\r\n{head}\r\n".encode() + content)
    status, _, _ = await connection.answer()
    assert status == 200


async def responds(connection: Connection) -> bool:
    """Send a request without a key; whether a response came, which is not so if its worker is dead."""
    try:
        await connection.send(REQUEST)
        status, _, _ = await connection.answer()
    except (OSError, asyncio.IncompleteReadError):
        return False
    assert status == 401
    return True


async def test_counters_survive_dead_and_hung_workers(
    platform: Platform, simulator: ProviderSimulator, tmp_path: Path
) -> None:
    """Every counter of a scrape is compared with the scrape before. Gauges leave the dead workers out: the connections
    that count are those that are still open, and no gauge of a dead worker has a file that the parent reads."""
    config = write_catalog(
        tmp_path / "platform.yaml",
        {name: {"base_url": simulator.base_url} for name in ("one", "two")},
        {"balanced": [("one", "sim-ok"), ("two", "sim-ok")]},
        {"sim-ok": {"weight": 1}},
        rate_limits=GENEROUS,
    )
    environment = {
        **platform.environment,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_DEFAULT_MODEL": "balanced",
        "PLATFORM_WORKER_TIMEOUT_SECONDS": "5",
        "TMPDIR": str(tmp_path),
    }
    async with AsyncExitStack() as stack:
        gateway = stack.enter_context(Gateway(environment, tmp_path, workers=4))
        scrapes = Scrapes(gateway)
        await until(lambda: scrapes.value("platform_workers_ready") == 4)
        assert scrapes.value("platform_workers_configured") == 4
        connections = [await stack.enter_async_context(connect(gateway)) for _ in range(CONNECTIONS)]
        key = await asyncio.to_thread(platform.key, "platform:chat")
        for connection, route in zip(connections, cycle(ROUTES), strict=False):
            await chat(connection, route, key)
            assert await responds(connection)
        await until(lambda: scrapes.value("platform_http_connections") == CONNECTIONS)
        denied = {"route": "/v1/models", "outcome": "denied"}
        assert scrapes.value("platform_requests_total", **denied) == CONNECTIONS
        served = [{"route": route.path, "outcome": "ok"} for route in ROUTES]
        for labels in served:
            await until(lambda labels=labels: scrapes.value("platform_requests_total", **labels) == CHATS)  # type: ignore[misc]  # a lambda's default has no annotation
        await until(lambda: scrapes.value("platform_event_loop_tasks") > 0)
        assert scrapes.value("platform_session_routes_total") == CONNECTIONS

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
        for labels in served:
            assert scrapes.value("platform_requests_total", **labels) == CHATS
        assert scrapes.fallen == []
        alive = set(map(str, workers(gateway)))
        assert files_of(tmp_path, "counter") | files_of(tmp_path, "histogram") <= {"dead", *alive}
        assert files_of(tmp_path, "gauge_*") <= alive


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
