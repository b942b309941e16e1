"""The limiter on a real cluster of three nodes, over TLS, and as an ACL user."""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import SSLConnection
from redis.exceptions import NoPermissionError, ResponseError

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.auth.cache import KeyCache
from platform_app.auth.keys.events import KeyEventListener, RedisKeyEvents
from platform_app.config import load_settings
from platform_app.errors import ConfigurationError, LimiterUnavailable
from platform_app.rate_limit.limiter import RateLimiter
from platform_app.rate_limit.limiters.cluster import ClusterLimiter
from platform_app.rate_limit.limiters.opening import open_limiter, open_redis_limiter
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.limiters.scripts import ALL as SCRIPTS
from platform_app.rate_limit.matching import Charge
from platform_app.redis.client import PipelinedRedis
from platform_app.redis.clients import make_redis
from platform_app.redis.cluster import PipelinedCluster
from tests.support.gateway.http import until
from tests.support.limits.limiter import charge, counter_name, lease, tokens
from tests.support.paths import ROOT
from tests.support.servers.valkey import connect, tell, tls_in_front, valkey_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[EmbeddedValkey]]:
    with valkey_cluster() as servers:
        yield servers


@pytest.fixture
async def limiter(cluster: list[EmbeddedValkey]) -> AsyncIterator[RateLimiter]:
    settings = load_settings(
        database_url="postgresql://unused", redis_url=cluster[0].url, redis_cluster=True, redis_timeout_ms=2000
    )
    async with open_redis_limiter(settings) as opened:
        yield opened


def pair(limit: int = 10, shared_limit: int = 10, caller: int = 0) -> list[Charge]:
    """A rule of the caller's and one that callers share; in slots of different nodes."""
    return [charge(counter_name(f"caller{caller}"), limit=limit), charge(counter_name("shared"), limit=shared_limit)]


async def states(limiter: RateLimiter, charges: list[Charge]) -> list[int]:
    return [state.remaining for state in await limiter.read(charges)]


async def becomes(limiter: RateLimiter, charges: list[Charge], expected: list[int]) -> None:
    """What is undone or settled is sent without waiting for it."""
    async with asyncio.timeout(300):
        while await states(limiter, charges) != expected:
            await asyncio.sleep(0.01)


async def test_callers_counters_are_spread_over_nodes(limiter: RateLimiter, cluster: list[EmbeddedValkey]) -> None:
    for caller in range(40):
        assert (await limiter.acquire([charge(counter_name(f"c{caller}"))])).allowed
    sizes = []
    for server in cluster:
        client = Redis.from_url(server.url)
        sizes.append(await client.dbsize())
        await client.aclose()
    assert all(sizes), sizes


async def test_states_of_both_slots_follow_rule_order(limiter: RateLimiter) -> None:
    own, shared = pair(limit=5, shared_limit=7)
    decision = await limiter.acquire([shared, own])
    assert [state.remaining for state in decision.states] == [6, 4]


@pytest.mark.parametrize("narrow", ["own", "shared"])
async def test_denial_in_one_slot_undoes_the_other(limiter: RateLimiter, narrow: str) -> None:
    charges = pair(limit=1 if narrow == "own" else 9, shared_limit=1 if narrow == "shared" else 9)
    assert (await limiter.acquire(charges)).allowed
    for _ in range(5):
        decision = await limiter.acquire(charges)
        assert decision.denied_by is not None
        assert decision.denied_by.rule.limit == 1
    await becomes(limiter, charges, [0, 8] if narrow == "own" else [8, 0])


async def test_reservations_in_both_slots_are_settled(limiter: RateLimiter) -> None:
    own, shared = tokens(counter_name("caller1"), limit=1000, units=400), lease(counter_name("shared"), limit=1)
    admission = (await limiter.acquire([own, shared])).admission
    assert not (await limiter.acquire([own, shared])).allowed
    await becomes(limiter, [own, shared], [600, 0])
    admission.settle(100, None)
    await becomes(limiter, [own, shared], [900, 1])


async def test_racing_callers_share_exactly_the_limit(cluster: list[EmbeddedValkey]) -> None:
    """Exactly the limit, from two processes' worth of connections."""
    shared = charge(counter_name("shared"), limit=50)
    pipes = [PipelinedCluster(server.url, 5) for server in cluster]
    limiters = [ClusterLimiter(RedisLimiter(pipe, by_hash_tag=True)) for pipe in pipes]
    decisions = await asyncio.gather(
        *(limiters[n % 3].acquire([charge(counter_name(f"racer{n}")), shared]) for n in range(200))
    )
    assert sum(decision.allowed for decision in decisions) == 50
    for pipe in pipes:
        await pipe.aclose()


async def test_moved_slot_is_found_again(limiter: RateLimiter, cluster: list[EmbeddedValkey]) -> None:
    each = charge(counter_name("mover"), limit=100)
    assert (await limiter.acquire([each])).allowed
    clients = [Redis.from_url(server.url) for server in cluster]
    slot = await tell(clients[0], "CLUSTER", "KEYSLOT", each.counter)
    ids = [await tell(client, "CLUSTER", "MYID") for client in clients]
    owner = slot * 3 // 16_384
    target = (owner + 1) % 3
    await tell(clients[owner], "DEL", each.counter)
    for client in (clients[target], clients[owner], clients[3 - owner - target]):
        await tell(client, "CLUSTER", "SETSLOT", slot, "NODE", ids[target])
    decision = await limiter.acquire([each])
    assert decision.states[0].remaining == 99
    await tell(clients[target], "DEL", each.counter)
    for client in (clients[owner], clients[target], clients[3 - owner - target]):
        await tell(client, "CLUSTER", "SETSLOT", slot, "NODE", ids[owner])
    assert (await limiter.acquire([each])).states[0].remaining == 99
    for client in clients:
        await client.aclose()


async def test_frozen_node_degrades_and_recovers(cluster: list[EmbeddedValkey]) -> None:
    settings = load_settings(database_url="postgresql://unused", redis_url=cluster[0].url, redis_cluster=True)
    async with open_limiter(settings) as limiter:
        callers = [charge(counter_name(f"frozen{number}"), limit=1000) for number in range(12)]
        for each in callers:
            assert (await limiter.acquire([each])).allowed
        cluster[2].pause()
        try:
            async with asyncio.timeout(300):
                while not limiter.degraded:
                    for each in callers:
                        assert (await limiter.acquire([each])).allowed
            await asyncio.sleep(0.6)
            assert limiter.degraded, "a probe of another node is no recovery"
        finally:
            cluster[2].resume()
        await until(lambda: not limiter.degraded, 60)


async def test_redis_client_works_on_cluster(cluster: list[EmbeddedValkey]) -> None:
    settings = load_settings(
        database_url="postgresql://unused", redis_url=cluster[0].url, redis_cluster=True, redis_timeout_ms=1000
    )
    redis, other = make_redis(settings), make_redis(settings)
    try:
        assert await redis.ping()
        for number in range(20):
            assert await redis.set(f"idem:{number}", "x", nx=True, px=5000)
            assert await redis.set(f"idem:{number}", "y", nx=True, px=5000) is None
            assert await other.get(f"idem:{number}") == b"x"
            assert await redis.delete(f"idem:{number}") == 1
        cache = KeyCache(10)
        forgotten: list[str] = []
        cache.forget = forgotten.append  # type: ignore[method-assign, assignment]
        listener = KeyEventListener(other, cache)
        listening = asyncio.create_task(listener.run())
        await until(lambda: listener.connected, 60)
        await RedisKeyEvents(redis).publish_change("KeyId1234567")
        await until(lambda: forgotten == ["KeyId1234567"], 60)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    finally:
        await redis.aclose()
        await other.aclose()


def test_cluster_requires_host_and_port() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(database_url="postgresql://unused", redis_url="unix:///x.sock", redis_cluster=True)
    assert "PLATFORM_REDIS_CLUSTER" in caught.value.problems[0]


async def test_tls_with_own_ca_is_accepted(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with tls_in_front(valkey, tmp_path) as (port, authority):
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority}"
        settings = load_settings(database_url="postgresql://unused", redis_url=url, redis_timeout_ms=2000)
        async with open_redis_limiter(settings) as limiter:
            each = charge(limit=3)
            outcomes = [(await limiter.acquire([each])).allowed for _ in range(4)]
        assert outcomes == [True, True, True, False]
        redis = make_redis(settings)
        assert await redis.ping()
        await redis.aclose()
        pipe = PipelinedRedis(f"rediss://127.0.0.1:{port}/0", 2)  # this client does not trust the CA
        with pytest.raises(LimiterUnavailable):
            await RedisLimiter(pipe).acquire([each])
        await pipe.aclose()


async def test_tls_context_is_made_before_a_timeout_runs(
    valkey: EmbeddedValkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To read the system's CAs can take longer than the default timeout of 50 ms."""
    made = 0

    def read_slowly() -> ssl.SSLContext:
        nonlocal made
        made += 1
        time.sleep(2.5)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async with tls_in_front(valkey, tmp_path) as (port, authority):
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority}"
        settings = load_settings(database_url="postgresql://unused", redis_url=url, redis_timeout_ms=2000)
        monkeypatch.setattr(ssl, "create_default_context", read_slowly)
        redis, pipe, other = make_redis(settings), PipelinedRedis(url, 2), PipelinedRedis(url, 2)
        assert await redis.ping()
        for client in (pipe, other):
            assert await client.execute_command("PING") in (b"PONG", "PONG")
            await client.aclose()
        assert made == 1
        authority.touch()  # replaced certificates are read
        again = PipelinedRedis(url, 2)
        assert await again.execute_command("PING") in (b"PONG", "PONG")
        assert made == 2
        await again.aclose()
        await redis.aclose()


async def test_tls_context_is_shared_by_nodes_of_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        database_url="postgresql://unused", redis_url="rediss://127.0.0.1:1/0?ssl_min_version=772", redis_cluster=True
    )
    made: list[ssl.SSLContext] = []
    make = ssl.create_default_context

    def count() -> ssl.SSLContext:
        made.append(make())
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", count)
    cluster = cast("RedisCluster", make_redis(settings))
    nodes = [*cluster.startup_nodes, *cluster.nodes_manager.startup_nodes.values()]
    connections = [cast("SSLConnection", node.connection_class(**node.connection_kwargs)) for node in nodes * 2]
    assert [connection.ssl_context.get() for connection in connections] == [made[0]] * len(connections)
    assert len(made) == 1


OPERATIONS = ROOT / "docs" / "operations.md"


async def test_documented_acl_rights_are_sufficient(valkey: EmbeddedValkey) -> None:
    documented = re.findall(r"^ACL SETUSER gateway reset on >PASSWORD (.*?)\n```", OPERATIONS.read_text(), re.M | re.S)
    admin = connect(valkey.url)
    await tell(admin, "ACL", "SETUSER", "gateway", "reset", "on", ">a p@ss", *documented[0].split())
    pipe = PipelinedRedis(f"unix://gateway:a%20p%40ss@{valkey.socket}", 2)
    try:
        assert await pipe.load_scripts(SCRIPTS, 5)
        limiter = RedisLimiter(pipe)
        own = [Charge(each.rule, f"fbp:rl:{each.counter}") for each in (charge(limit=2), tokens(), lease())]
        decision = await limiter.acquire(own)
        assert decision.allowed
        decision.admission.settle(5, None)
        await asyncio.sleep(0)
        assert [state.remaining for state in await limiter.read(own)] == [1, 995, 10]
        with pytest.raises(NoPermissionError):
            await pipe.execute_command("GET", "something else")
        wrong = PipelinedRedis(f"unix://gateway:wrong@{valkey.socket}", 2)
        with pytest.raises((LimiterUnavailable, ResponseError)):
            await RedisLimiter(wrong).acquire(own)
        await wrong.aclose()
        await admin.delete(*(each.counter for each in own))
    finally:
        await pipe.aclose()
        await tell(admin, "ACL", "DELUSER", "gateway")
        await admin.aclose()
