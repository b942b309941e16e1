"""The gateway with two workers on a Valkey Cluster of three nodes: limits, stored responses and revocations."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway.http import metric, metric_becomes
from tests.support.gateway.process import Gateway, write_config
from tests.support.servers.valkey import connect, valkey_cluster

KEYS = 30
LIMIT = 70  # a replayed response counts too
ASKED = 90
RULES = {"rules": [{"name": "key-rpm", "scope": "key", "limit": LIMIT, "window_seconds": 60}]}


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[EmbeddedValkey]]:
    with valkey_cluster() as servers:
        yield servers


@pytest.fixture(scope="module")
def gateway(
    platform: Platform,
    cluster: list[EmbeddedValkey],
    simulator: ProviderSimulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("gateway")
    config = write_config(directory / "platform.yaml", simulator.base_url, rate_limits=RULES)
    environment = {
        **platform.environment,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_REDIS_URL": cluster[0].url,
        "PLATFORM_REDIS_CLUSTER": "true",
        "PLATFORM_REDIS_TIMEOUT_MS": "1000",  # long enough that the cluster always responds in time
    }
    with Gateway(environment, directory, workers=2) as running:
        yield running
    assert running.child is not None
    assert running.child.poll() == 0
    assert not [line for line in running.log_lines() if line["level"] in ("error", "critical")]


async def ask(
    client: httpx.AsyncClient, gateway: Gateway, key: str, idempotency_key: str | None = None
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} | ({"Idempotency-Key": idempotency_key} if idempotency_key else {})
    return await client.post(gateway.chat_url, json={"prompt": "hi"}, headers=headers)


async def test_idempotency_works_in_every_slot(
    client: httpx.AsyncClient,
    gateway: Gateway,
    platform: Platform,
    simulator: ProviderSimulator,
    cluster: list[EmbeddedValkey],
) -> None:
    key = platform.key()
    simulator.reset()
    firsts = [await ask(client, gateway, key, f"order-{number}") for number in range(KEYS)]
    again = await asyncio.gather(*(ask(client, gateway, key, f"order-{number}") for number in range(KEYS)))
    assert {response.status_code for response in (*firsts, *again)} == {200}
    assert [response.content for response in again] == [response.content for response in firsts]
    assert all(response.headers["idempotency-replayed"] == "true" for response in again)
    assert simulator.stats()["sim-ok"]["total"] == KEYS
    for server in cluster:
        redis = connect(server.url)
        kept = [name async for name in redis.scan_iter("*idem*")]
        await redis.aclose()
        assert kept, "with so many keys each node has some"


async def test_workers_share_a_limit_on_cluster(
    client: httpx.AsyncClient, gateway: Gateway, platform: Platform
) -> None:
    key = platform.key()
    answers = await asyncio.gather(*(ask(client, gateway, key) for _ in range(ASKED)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (LIMIT, ASKED - LIMIT)
    assert metric(gateway.metrics(), "platform_limiter_degraded") == 0
    await metric_becomes(gateway, 1, "platform_key_listener_connected")


async def test_revocation_reaches_every_worker_on_cluster(
    client: httpx.AsyncClient, gateway: Gateway, platform: Platform
) -> None:
    record, key = platform.new_key()
    for _ in range(8):  # new connections, so that both workers know it
        async with httpx.AsyncClient(trust_env=False) as other:
            assert (await ask(other, gateway, key)).status_code == 200
    assert (await client.get(f"{gateway.base_url}/readyz")).status_code == 200
    await asyncio.to_thread(announced_revocation, platform, gateway, record.key_id)
    await asyncio.sleep(1)
    for _ in range(8):
        async with httpx.AsyncClient(trust_env=False) as other:
            assert (await ask(other, gateway, key)).status_code == 401


def announced_revocation(platform: Platform, gateway: Gateway, key_id: str) -> None:
    """Over HTTP, where the gateway itself announces it on the cluster."""
    admin = {"Authorization": f"Bearer {platform.key('platform:api_keys:manage', 'platform:chat')}"}
    url = f"{gateway.base_url}/v1/platform/api-keys/{key_id}/revoke"
    answer = httpx.post(url, headers=admin, json={"reason": "a test"}, trust_env=False, timeout=300)
    assert answer.status_code == 200, answer.text
