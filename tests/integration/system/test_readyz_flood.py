"""A flood of readiness probes does not slow requests."""

import asyncio
from pathlib import Path

import httpx

from tests.conftest import Platform
from tests.support.gateway.http import metric
from tests.support.gateway.process import Gateway

CLIENTS = 64
PROBES_EACH = 10


async def test_flood_of_probes_leaves_requests_alone(platform: Platform, chat_key: str, tmp_path: Path) -> None:
    """The pool has one connection: the probes neither take it nor the shared limiter's."""
    environment = {**platform.environment, "PLATFORM_DATABASE_POOL_SIZE": "1", "PLATFORM_REDIS_TIMEOUT_MS": "5000"}
    headers = {"Authorization": f"Bearer {chat_key}"}
    with Gateway(environment, tmp_path) as gateway:
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(timeout=300, trust_env=False, limits=limits) as client:

            async def probe() -> set[int]:
                return {(await client.get(f"{gateway.base_url}/readyz")).status_code for _ in range(PROBES_EACH)}

            probes = [asyncio.create_task(probe()) for _ in range(CLIENTS - 1)]
            for _ in range(10):
                response = await client.post(gateway.chat_url, headers=headers, json={"prompt": "Hello"})
                assert response.status_code == 200
            assert await asyncio.gather(*probes) == [{200}] * (CLIENTS - 1)
            head = await client.head(f"{gateway.base_url}/readyz")
            assert (head.status_code, head.content) == (200, b"")
        metrics = gateway.metrics()
        assert metric(metrics, "platform_limiter_degraded") == 0
        assert metric(metrics, "platform_limiter_total", decision="allowed", mode="local") == 0
