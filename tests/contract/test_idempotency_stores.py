"""One suite for every idempotency store: Valkey, and the stand-in of the unit tests."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.errors import IdempotencyUnavailable
from platform_app.idempotency.redis_store import RedisIdempotencyStore
from platform_app.idempotency.store import NOT_KEPT, Claim, Finish, Found, Holder, IdempotencyStore, State, record_name
from platform_app.redis.client import PipelinedRedis
from tests.support.fakes.memory_store import MemoryStore

LEASE = 30.0
BYTES = bytes(range(256)) * 4

_numbers = itertools.count(1)


@pytest.fixture
async def scripts(valkey: EmbeddedValkey) -> AsyncIterator[PipelinedRedis]:
    """A client of a server that has not loaded the scripts."""
    async with Redis.from_url(valkey.url) as redis:
        await redis.script_flush()
    client = PipelinedRedis(valkey.url, 30)
    yield client
    await client.aclose()


@pytest.fixture(params=["valkey", "memory"])
def store(request: pytest.FixtureRequest, scripts: PipelinedRedis) -> IdempotencyStore:
    return MemoryStore() if request.param == "memory" else RedisIdempotencyStore(scripts)


@pytest.fixture
def claim() -> Claim:
    return Claim(record_name(Holder("k" * 12, "team"), "/a", f"contract-{next(_numbers)}"), "f1", "first")


@pytest.fixture
def other(claim: Claim) -> Claim:
    return replace(claim, owner="second")


async def test_first_claim_holds_the_key(store: IdempotencyStore, claim: Claim, other: Claim) -> None:
    assert await store.begin(claim, LEASE) == Found(State.STARTED)
    assert await store.begin(other, LEASE) == Found(State.IN_FLIGHT)
    assert await store.begin(replace(other, fingerprint="f2"), LEASE) == Found(State.OTHER_BODY)
    assert await store.renew(claim, LEASE)
    assert await store.finish(claim, BYTES, 60) is Finish.KEPT
    assert await store.begin(other, LEASE) == Found(State.DONE, BYTES)
    assert await store.begin(replace(other, fingerprint="f2"), LEASE) == Found(State.OTHER_BODY)


async def test_begin_after_client_disconnect_says_so(store: IdempotencyStore, claim: Claim, other: Claim) -> None:
    await store.begin(claim, LEASE)
    assert await store.renew(claim, LEASE, client_disconnected=True)
    assert await store.begin(other, LEASE) == Found(State.CLIENT_DISCONNECTED)
    assert await store.begin(replace(other, fingerprint="f2"), LEASE) == Found(State.OTHER_BODY)
    assert await store.renew(claim, LEASE)
    assert await store.begin(other, LEASE) == Found(State.CLIENT_DISCONNECTED)
    assert not await store.renew(other, LEASE, client_disconnected=True)
    assert await store.finish(claim, BYTES, 60) is Finish.KEPT
    assert await store.begin(other, LEASE) == Found(State.DONE, BYTES)
    assert not await store.renew(claim, LEASE, client_disconnected=True), "it is over"


async def test_claim_that_holds_the_key_starts_again(store: IdempotencyStore, claim: Claim, other: Claim) -> None:
    """Its first response was lost on the way."""
    await store.begin(claim, LEASE)
    assert await store.begin(claim, LEASE) == Found(State.STARTED)
    assert await store.begin(other, LEASE) == Found(State.IN_FLIGHT)


async def test_marker_is_stored_without_response(store: IdempotencyStore, claim: Claim, other: Claim) -> None:
    await store.begin(claim, LEASE)
    assert await store.finish(claim, NOT_KEPT, 60) is Finish.KEPT
    assert await store.begin(other, LEASE) == Found(State.DONE, NOT_KEPT)


async def test_released_key_has_no_record(store: IdempotencyStore, claim: Claim, other: Claim) -> None:
    await store.begin(claim, LEASE)
    assert await store.release(claim)
    assert await store.begin(replace(other, fingerprint="f2"), LEASE) == Found(State.STARTED)


async def test_only_the_holder_may_renew_finish_and_release(
    store: IdempotencyStore, claim: Claim, other: Claim
) -> None:
    await store.begin(claim, LEASE)
    assert not await store.renew(other, LEASE)
    assert await store.finish(other, BYTES, 60) is Finish.LOST
    assert not await store.release(other)
    assert await store.begin(other, LEASE) == Found(State.IN_FLIGHT)
    await store.finish(claim, BYTES, 60)
    # What is done stays done, also for the one who did it.
    assert not await store.renew(claim, LEASE)
    assert not await store.release(claim)
    assert await store.begin(other, LEASE) == Found(State.DONE, BYTES)


@pytest.mark.parametrize("end", ["renew", "finish", "release"])
async def test_lost_record_belongs_to_its_holder_again(
    store: IdempotencyStore, claim: Claim, other: Claim, end: str
) -> None:
    """Nothing is known, as after a restart without persistence."""
    expected = {"renew": State.IN_FLIGHT, "finish": State.DONE, "release": State.STARTED}[end]
    match end:
        case "renew":
            assert await store.renew(claim, LEASE)
        case "finish":
            assert await store.finish(claim, BYTES, 60) is Finish.KEPT
        case _:
            assert await store.release(claim)
    assert (await store.begin(other, LEASE)).state is expected


async def test_one_of_hundred_racing_claims_starts(store: IdempotencyStore, claim: Claim) -> None:
    racers = (store.begin(replace(claim, owner=f"racer-{number}"), LEASE) for number in range(100))
    states = [found.state for found in await asyncio.gather(*racers)]
    assert sorted(states, key=str) == [State.STARTED, *[State.IN_FLIGHT] * 99]


# --- what only a server does


@pytest.fixture
async def redis(valkey: EmbeddedValkey) -> AsyncIterator[Redis]:
    async with Redis.from_url(valkey.url) as client:
        yield client


async def test_lease_and_response_expire(scripts: PipelinedRedis, redis: Redis, claim: Claim, other: Claim) -> None:
    store = RedisIdempotencyStore(scripts)
    await store.begin(claim, 600)
    assert 300_000 < await redis.pttl(claim.record) <= 600_000
    await store.renew(claim, 6000)
    assert 3_000_000 < await redis.pttl(claim.record) <= 6_000_000
    assert await store.begin(other, LEASE) == Found(State.IN_FLIGHT), "it was renewed"
    await store.renew(claim, 0.05)
    async with asyncio.timeout(300):
        while (found := await store.begin(other, 6000)).state is State.IN_FLIGHT:
            await asyncio.sleep(0.01)
    assert found == Found(State.STARTED)
    await store.finish(other, BYTES, 600)
    assert 300_000 < await redis.pttl(other.record) <= 600_000


async def test_finish_is_one_call_and_one_key(scripts: PipelinedRedis, redis: Redis, claim: Claim) -> None:
    """`owner` is gone from a finished record, and nothing else was written anywhere."""
    before = await redis.dbsize()
    store = RedisIdempotencyStore(scripts)
    await store.begin(claim, LEASE)
    calls = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    await store.finish(claim, b"answer", 60)
    assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] == calls + 1
    assert await redis.hgetall(claim.record) == {b"fingerprint": b"f1", b"answer": b"answer"}
    assert await redis.dbsize() == before + 1


async def test_missing_server_is_unavailable(claim: Claim) -> None:
    pipe = PipelinedRedis("unix:///nowhere/none.sock", 0.05)
    store = RedisIdempotencyStore(pipe)
    for call in (store.begin(claim, 1), store.renew(claim, 1), store.finish(claim, b"", 1), store.release(claim)):
        with pytest.raises(IdempotencyUnavailable) as caught:
            await call
        assert caught.value.retry_after == 1
    await pipe.aclose()
