"""Kept responses in a Redis whose memory is used up: nothing is kept, and requests with keys work on."""

import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.idempotency.redis_store import KEEP_BELOW_PERCENT, RedisIdempotencyStore
from platform_app.idempotency.store import NOT_KEPT, Claim, Finish, Found, Holder, State, record_name
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.redis.client import PipelinedRedis
from tests.support.limits.limiter import charge
from tests.support.servers.valkey import own_server, tell

MAXMEMORY = 32 * 1024 * 1024
LEASE = 30.0
RESPONSE = b"x" * 100_000

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def small_valkey() -> Iterator[EmbeddedValkey]:
    with own_server("--maxmemory", str(MAXMEMORY), "--maxmemory-policy", "noeviction") as server:
        yield server


@pytest.fixture
async def redis(small_valkey: EmbeddedValkey) -> AsyncIterator[Redis]:
    async with Redis.from_url(small_valkey.url) as client:
        yield client
        await client.config_set("maxmemory", MAXMEMORY)
        await client.flushall()


@pytest.fixture
async def store(small_valkey: EmbeddedValkey) -> AsyncIterator[RedisIdempotencyStore]:
    pipe = PipelinedRedis(small_valkey.url, 10)
    yield RedisIdempotencyStore(pipe)
    await pipe.aclose()


def new_claim() -> Claim:
    return Claim(record_name(Holder("k" * 12, "team"), "/a", f"full-{next(_numbers)}"), "f1", "first")


async def keep(store: RedisIdempotencyStore, response: bytes = RESPONSE) -> tuple[Claim, Finish]:
    claim = new_claim()
    assert await store.begin(claim, LEASE) == Found(State.STARTED)
    assert await store.renew(claim, LEASE)
    return claim, await store.finish(claim, response, 60)


async def fill(redis: "Redis") -> None:
    """Leave less memory than is used: every ordinary write is refused."""
    await redis.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        await redis.set("an ordinary write", b"x")


async def used(redis: "Redis") -> int:
    memory: int = (await redis.info("memory"))["used_memory"]
    return memory


async def test_responses_stop_below_maxmemory(
    store: RedisIdempotencyStore, redis: Redis, small_valkey: EmbeddedValkey
) -> None:
    """Whatever shares the server, the limiter first of all, keeps a fifth of its memory."""
    finish = Finish.KEPT
    while finish is Finish.KEPT:
        claim, finish = await keep(store)
    assert finish is Finish.NO_ROOM
    assert await store.begin(replace(claim, owner="second"), LEASE) == Found(State.DONE, NOT_KEPT)
    assert 0.5 * MAXMEMORY < await used(redis) < (KEEP_BELOW_PERCENT + 2) / 100 * MAXMEMORY
    pipe = PipelinedRedis(small_valkey.url, 10)
    assert (await RedisLimiter(pipe).acquire([charge()])).allowed
    await pipe.aclose()


async def test_response_that_would_not_fit_is_not_stored(store: RedisIdempotencyStore, redis: Redis) -> None:
    """Its own bytes count, besides those of the command that brings it."""
    response = b"x" * 8 * 1024 * 1024
    room = await used(redis) + 3 * len(response)
    await redis.config_set("maxmemory", room * 100 // KEEP_BELOW_PERCENT)
    assert (await keep(store, RESPONSE))[1] is Finish.KEPT
    assert (await keep(store, response))[1] is Finish.NO_ROOM


@pytest.mark.parametrize("step", ["again", "renewed", "disconnected"])
async def test_each_step_of_the_owner_renews_its_lease(store: RedisIdempotencyStore, redis: Redis, step: str) -> None:
    claim = new_claim()
    await store.begin(claim, 1000)
    if step == "again":
        assert await store.begin(claim, 5000) == Found(State.STARTED)
    else:
        assert await store.renew(claim, 5000, client_disconnected=step == "disconnected")
    assert 1_000_000 < await redis.pttl(claim.record) <= 5_000_000


async def test_full_server_remembers_that_work_was_done(store: RedisIdempotencyStore, redis: Redis) -> None:
    await fill(redis)
    claim, finish = await keep(store)
    assert finish is Finish.NO_ROOM
    assert await store.begin(replace(claim, owner="second"), LEASE) == Found(State.DONE, NOT_KEPT)
    released = new_claim()
    await store.begin(released, LEASE)
    assert await store.release(released)


async def test_full_server_refuses_user_without_info_right(small_valkey: EmbeddedValkey, redis: Redis) -> None:
    """Where the store may not ask for the memory, the server's own refusal counts."""
    await tell(redis, "ACL", "SETUSER", "blind", "reset", "on", ">p", "~*", "+@all", "-info")
    pipe = PipelinedRedis(f"unix://blind:p@{small_valkey.socket}", 10)
    try:
        store = RedisIdempotencyStore(pipe)
        claim, finish = await keep(store)
        assert finish is Finish.KEPT
        assert await store.begin(replace(claim, owner="second"), LEASE) == Found(State.DONE, RESPONSE)
        await fill(redis)
        claim, finish = await keep(store)
        assert finish is Finish.NO_ROOM
        assert await store.begin(replace(claim, owner="second"), LEASE) == Found(State.DONE, NOT_KEPT)
    finally:
        await pipe.aclose()
        await tell(redis, "ACL", "DELUSER", "blind")


async def test_lost_lease_in_full_server_is_reported(store: RedisIdempotencyStore, redis: Redis) -> None:
    claim = new_claim()
    await store.begin(replace(claim, owner="second"), LEASE)
    await fill(redis)
    assert await store.finish(claim, RESPONSE, 60) is Finish.LOST
