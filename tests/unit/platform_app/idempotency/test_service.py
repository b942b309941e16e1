"""What a request with a key gets, and what the store contains after it."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from platform_app.errors import (
    Conflict,
    IdempotencyInFlight,
    IdempotencyUnavailable,
    InvalidRequest,
    RateLimited,
    ValidationFailed,
)
from platform_app.idempotency.in_flight import InFlightRequest
from platform_app.idempotency.service import HASH_APART_BYTES, IdempotencyService
from platform_app.idempotency.store import Holder
from platform_app.idempotency.stored_response import StoredResponse
from tests.support.fakes.core import Count
from tests.support.fakes.memory_store import MemoryStore
from tests.support.idempotency.in_process import OUTCOMES, POLICY, begin, begun
from tests.support.timing.virtual_time import virtual_time

ANSWER = StoredResponse(200, (("content-type", "application/json"),), b'{"a":\n1}', "gpt-4o")


def test_stored_response_decodes_to_itself() -> None:
    odd = StoredResponse(200, (("x-platform-model", "模"),), bytes(range(256)))
    for answer in (ANSWER, StoredResponse(400, (), b""), odd):
        assert answer.encode()
        assert StoredResponse.decode(answer.encode()) == answer


async def test_response_is_replayed(keeper: IdempotencyService, store: MemoryStore) -> None:
    counts = {name: Count(OUTCOMES, outcome=name) for name in ("started", "stored")}
    attempt = await begun(keeper)
    assert attempt.protected
    await attempt.finish(ANSWER)
    assert await begin(keeper) == ANSWER
    assert [record.seconds for record in store.records.values()] == [3600]
    assert {name: count.grown for name, count in counts.items()} == {"started": 1, "stored": 1}


async def test_running_request_and_other_body_are_refused(keeper: IdempotencyService) -> None:
    counts = {name: Count(OUTCOMES, outcome=name) for name in ("in_flight", "mismatch")}
    attempt = await begun(keeper)
    with pytest.raises(IdempotencyInFlight) as caught:
        await begin(keeper)
    assert caught.value.retry_after == 1
    with pytest.raises(ValidationFailed):
        await begin(keeper, body=b"{ }")
    await attempt.finish(ANSWER)
    with pytest.raises(ValidationFailed):
        await begin(keeper, body=b"{ }")
    assert {name: count.grown for name, count in counts.items()} == {"in_flight": 1, "mismatch": 2}


async def test_record_names_separate_callers_and_routes(keeper: IdempotencyService, store: MemoryStore) -> None:
    for more in ({}, {"caller": "k2"}, {"owner": "other"}, {"route": "/b"}, {"key": "two"}, {"key": "{}"}):
        await (await begun(keeper, **more)).finish(ANSWER)
    assert len(store.records) == 6
    for name in store.records:
        assert name.startswith("fbp:idem:2:{")
        assert name.endswith("}")
        assert name.count("{") == 1


async def test_released_key_runs_next_request(keeper: IdempotencyService, store: MemoryStore) -> None:
    released = Count(OUTCOMES, outcome="released")
    attempt = await begun(keeper)
    await attempt.release()
    assert store.records == {}
    await (await begun(keeper)).finish(ANSWER)
    await attempt.release()  # a second end changes nothing
    await attempt.finish(StoredResponse(200, (), b"late"))
    assert await begin(keeper) == ANSWER
    assert released.grown == 1


async def test_too_large_response_leaves_a_marker(keeper: IdempotencyService, store: MemoryStore) -> None:
    counts = {name: Count(OUTCOMES, outcome=name) for name in ("too_large", "not_kept", "stored")}
    attempt = await begun(keeper)
    assert attempt.max_bytes == 100, "a caller need not collect more"
    await attempt.finish(StoredResponse(200, (), b"x" * 101))
    assert [record.response for record in store.records.values()] == [b""]
    with pytest.raises(Conflict):
        await begin(keeper)
    await (await begun(keeper, key="fits")).finish(StoredResponse(200, (), b"x" * 100))
    assert isinstance(await begin(keeper, key="fits"), StoredResponse)
    assert {name: count.grown for name, count in counts.items()} == {"too_large": 1, "not_kept": 1, "stored": 1}


async def test_large_bodies_are_distinguished(keeper: IdempotencyService) -> None:
    large = b"x" * (HASH_APART_BYTES + 1)
    attempt = await begin(keeper, body=large)
    assert isinstance(attempt, InFlightRequest)
    await attempt.finish(ANSWER)
    assert await begin(keeper, body=large) == ANSWER
    with pytest.raises(ValidationFailed):
        await begin(keeper, body=large[:-1] + b"y")


class Quota:
    """A quota that has room, or not."""

    def __init__(self, *, responses: bool = True, markers: bool = True) -> None:
        self.responses, self.markers = responses, markers
        self.taken: list[int] = []
        self.marked = 0

    async def take_response(self, holder: Holder, size: int) -> bool:
        self.taken.append(size)
        return self.responses

    async def take_marker(self, holder: Holder) -> None:
        self.marked += 1

    def require_marker(self, holder: Holder) -> None:
        if not self.markers:
            raise RateLimited("full", retry_after=7)


async def test_response_within_quota_is_counted_by_its_size(store: MemoryStore) -> None:
    quota = Quota()
    keeper = IdempotencyService(store, POLICY, quota)
    await (await begun(keeper)).finish(ANSWER)
    assert quota.taken == [len(ANSWER.encode())]
    assert quota.marked == 0
    assert await begin(keeper) == ANSWER


async def test_response_over_quota_is_not_stored_nor_repeated(store: MemoryStore) -> None:
    quota, over_quota = Quota(responses=False), Count(OUTCOMES, outcome="over_quota")
    keeper = IdempotencyService(store, POLICY, quota)
    with capture_logs() as logs:
        await (await begun(keeper)).finish(ANSWER)
        await (await begun(keeper, key="two")).finish(ANSWER)
    assert [(line["event"], line["reason"], line["key_id"], line["owner"]) for line in logs] == [
        ("idempotency_response_not_kept", "over_quota", "k1", "team")
    ], "at most one line a second"
    assert (over_quota.grown, quota.marked) == (2, 2)
    with pytest.raises(Conflict):
        await begin(keeper)


async def test_too_large_response_takes_only_a_marker(store: MemoryStore) -> None:
    quota = Quota()
    await (await begun(IdempotencyService(store, POLICY, quota))).finish(StoredResponse(200, (), b"x" * 101))
    assert (quota.taken, quota.marked) == ([], 1)


async def test_full_store_stores_no_response(keeper: IdempotencyService, store: MemoryStore) -> None:
    memory_full = Count(OUTCOMES, outcome="memory_full")
    store.full = True
    await (await begun(keeper)).finish(ANSWER)
    assert memory_full.grown == 1
    with pytest.raises(Conflict):
        await begin(keeper)


async def test_missing_room_for_markers_refuses_request(store: MemoryStore) -> None:
    quota = Quota()
    keeper = IdempotencyService(store, POLICY, quota)
    await (await begun(keeper)).finish(ANSWER)
    quota.markers = False
    counts = {name: Count(OUTCOMES, outcome=name) for name in ("refused", "started")}
    with pytest.raises(RateLimited):
        await begin(keeper, key="new")
    assert await begin(keeper) == ANSWER, "what was kept is given again"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(store.records) == 1, "the new key is free again"
    assert {name: count.grown for name, count in counts.items()} == {"refused": 1, "started": 0}


async def test_disconnect_during_quota_check_stores_response(store: MemoryStore) -> None:
    asked = asyncio.Event()

    class Slow(Quota):
        async def take_response(self, holder: Holder, size: int) -> bool:
            await asked.wait()
            return True

    keeper = IdempotencyService(store, POLICY, Slow())
    attempt = await begun(keeper)
    finishing = asyncio.create_task(attempt.finish(ANSWER))
    await asyncio.sleep(0)
    finishing.cancel()
    await asyncio.gather(finishing, return_exceptions=True)
    await attempt.release()
    asked.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert await begin(keeper) == ANSWER


# --- the lease


@virtual_time
async def test_running_request_renews_its_lease(keeper: IdempotencyService, store: MemoryStore) -> None:
    attempt = await begun(keeper)
    await asyncio.sleep(POLICY.lease_seconds)
    assert store.steps.count("renew") >= 2
    await attempt.finish(ANSWER)
    renewed = store.steps.count("renew")
    await asyncio.sleep(POLICY.lease_seconds)
    assert store.steps.count("renew") == renewed


@virtual_time
async def test_lost_record_is_taken_again(keeper: IdempotencyService, store: MemoryStore) -> None:
    attempt = await begun(keeper)
    store.forget()
    await asyncio.sleep(POLICY.lease_seconds)
    with pytest.raises(IdempotencyInFlight):
        await begin(keeper)
    await attempt.release()


async def test_lost_key_does_not_affect_new_holder(keeper: IdempotencyService, store: MemoryStore) -> None:
    lost = Count(OUTCOMES, outcome="lost")
    late = await begun(keeper)
    store.forget()
    other = await begun(keeper)
    await late.finish(StoredResponse(200, (), b"late"))
    with pytest.raises(IdempotencyInFlight):
        await begin(keeper)
    await other.finish(ANSWER)
    assert await begin(keeper) == ANSWER
    assert lost.grown == 1


# --- the store is down


async def test_unavailable_store_refuses_and_releases_late_claim(
    keeper: IdempotencyService, store: MemoryStore
) -> None:
    unavailable = Count(OUTCOMES, outcome="unavailable")
    store.down = True
    with pytest.raises(IdempotencyUnavailable):
        await begin(keeper)
    assert unavailable.grown == 1
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert store.steps == ["begin", "release"]
    store.down = False
    await (await begun(keeper)).release()


@virtual_time
async def test_allow_policy_runs_and_protects_after_recovery(store: MemoryStore) -> None:
    keeper = IdempotencyService(store, replace(POLICY, refuse_when_unavailable=False))
    store.down = True
    attempt = await begun(keeper)
    assert not attempt.protected
    store.down = False
    await asyncio.sleep(POLICY.lease_seconds)
    with pytest.raises(IdempotencyInFlight):
        await begin(keeper)
    await attempt.finish(ANSWER)
    assert await begin(keeper) == ANSWER


@pytest.mark.parametrize("end", ["finish", "release"])
async def test_finish_without_store_is_counted_and_does_not_raise(
    keeper: IdempotencyService, store: MemoryStore, end: str
) -> None:
    unavailable = Count(OUTCOMES, outcome="unavailable")
    attempt = await begun(keeper)
    store.down = True
    await (attempt.finish(ANSWER) if end == "finish" else attempt.release())
    assert unavailable.grown == 1


async def test_cancellation_during_storing_keeps_the_key(keeper: IdempotencyService, store: MemoryStore) -> None:
    """The store has the response already; a release would delete it."""
    attempt = await begun(keeper)
    store.slow = response_stored = asyncio.Event()
    finishing = asyncio.create_task(attempt.finish(ANSWER))
    await asyncio.sleep(0)
    finishing.cancel()
    await asyncio.gather(finishing, return_exceptions=True)
    store.slow = None
    await attempt.release()
    assert store.steps == ["begin", "finish"]
    [storing] = keeper._context.finishing  # the loop has only a weak reference to a task
    response_stored.set()
    await storing
    assert await begin(keeper) == ANSWER


async def test_keys_are_refused_when_disabled(store: MemoryStore) -> None:
    keeper = IdempotencyService(store, replace(POLICY, keep_seconds=0))
    with pytest.raises(InvalidRequest):
        await begin(keeper)
    assert store.steps == []
