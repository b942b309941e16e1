"""A retry while the first request runs without its client, replays, and a store that goes down and comes back."""

import asyncio
from dataclasses import replace

import pytest
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from platform_app.errors import IdempotencyInFlight, IdempotencyUnavailable, RateLimited
from platform_app.idempotency.in_flight import InFlightRequest
from platform_app.idempotency.service import IdempotencyService
from platform_app.idempotency.store import Claim, Found
from platform_app.idempotency.stored_response import StoredResponse
from tests.support.fakes.core import Count, FakeClock
from tests.support.fakes.memory_store import MemoryStore
from tests.support.idempotency.in_process import OUTCOMES, POLICY, begin, begun
from tests.support.timing.virtual_time import now, virtual_time

ANSWER = StoredResponse(200, (), b"{}")


async def disconnected(keeper: IdempotencyService) -> InFlightRequest:
    """Begin a request, and let its client disconnect."""
    attempt = await begun(keeper)
    attempt.client_disconnected()
    await asyncio.sleep(0)
    return attempt


@virtual_time
async def test_retry_waits_for_the_response_of_a_disconnected_client(
    keeper: IdempotencyService, store: MemoryStore
) -> None:
    waited = Count(OUTCOMES, outcome="waited")
    attempt, start = await disconnected(keeper), now()
    retry = asyncio.create_task(begin(keeper))
    await asyncio.sleep(10)
    assert not retry.done()
    await attempt.finish(ANSWER)
    assert await retry == ANSWER
    assert now() - start <= 10.5  # it looks twice a second
    assert waited.grown == 1


@virtual_time
async def test_retry_looks_often_at_first_and_then_twice_a_second(
    keeper: IdempotencyService, store: MemoryStore
) -> None:
    """A response that comes soon is passed on soon, and a long wait costs the store little."""
    attempt = await disconnected(keeper)
    retry = asyncio.create_task(begin(keeper))
    looks = []
    for seconds in (0.01, 0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 5.0):
        await asyncio.sleep(seconds)
        looks.append(store.steps.count("begin") - 1)
    assert looks == [1, 2, 3, 4, 5, 6, 7, 17]
    await attempt.finish(ANSWER)
    await retry


@virtual_time
async def test_retry_stops_waiting_before_a_proxy_would(keeper: IdempotencyService, store: MemoryStore) -> None:
    in_flight = Count(OUTCOMES, outcome="in_flight")
    attempt, start = await disconnected(keeper), now()
    with pytest.raises(IdempotencyInFlight):
        await begin(keeper)
    assert 50 <= now() - start < 50.5
    assert in_flight.grown == 1
    await attempt.release()


@virtual_time
async def test_retry_runs_when_the_first_request_is_given_up(keeper: IdempotencyService, store: MemoryStore) -> None:
    attempt = await disconnected(keeper)
    retry = asyncio.create_task(begun(keeper))
    await asyncio.sleep(1)
    await attempt.release()
    assert (await retry).protected
    await (await retry).release()


@virtual_time
async def test_retry_waits_through_an_outage_of_the_store(keeper: IdempotencyService, store: MemoryStore) -> None:
    attempt = await disconnected(keeper)
    retry = asyncio.create_task(begin(keeper))
    await asyncio.sleep(1)
    store.down = True
    await asyncio.sleep(10)
    assert not retry.done()
    store.down = False
    await attempt.finish(ANSWER)
    assert await retry == ANSWER


@virtual_time
async def test_client_that_leaves_while_its_retry_waits_takes_no_key(
    keeper: IdempotencyService, store: MemoryStore
) -> None:
    """The store may have given the key to the retry just before."""
    attempt = await disconnected(keeper)
    retry = asyncio.create_task(begin(keeper))
    await asyncio.sleep(1)
    retry.cancel()
    with pytest.raises(asyncio.CancelledError):
        await retry
    await asyncio.sleep(0.1)
    assert store.steps.count("release") == 1
    assert len(store.records) == 1, "the first request still holds it"
    assert not keeper._undoing
    await attempt.finish(ANSWER)


@virtual_time
async def test_refused_request_does_not_wait_for_its_release(keeper: IdempotencyService, store: MemoryStore) -> None:
    store.down = True
    with pytest.raises(IdempotencyUnavailable):
        await begin(keeper)
    store.slow = asyncio.Event()
    await asyncio.sleep(0)
    assert len(keeper._undoing) == 1, "the loop has only a weak reference to a task"
    store.slow.set()
    await asyncio.sleep(0.1)
    assert not keeper._undoing


@virtual_time
async def test_replay_is_counted_unless_it_is_refused(keeper: IdempotencyService) -> None:
    counts = {name: Count(OUTCOMES, outcome=name) for name in ("replayed", "replay_refused")}

    async def admitted(error: Exception | None = None) -> None:
        if error is not None:
            raise error

    await keeper.replay(admitted())
    assert {name: count.grown for name, count in counts.items()} == {"replayed": 1, "replay_refused": 0}
    with pytest.raises(RateLimited):
        await keeper.replay(admitted(RateLimited("x")))
    assert {name: count.grown for name, count in counts.items()} == {"replayed": 1, "replay_refused": 1}


@pytest.mark.parametrize("refused", [True, False])
@virtual_time
async def test_outage_and_recovery_are_logged_once_each(store: MemoryStore, refused: bool) -> None:
    keeper = IdempotencyService(store, replace(POLICY, refuse_when_unavailable=refused))
    unavailable = Count(OUTCOMES, outcome="unavailable")

    async def ask() -> None:
        try:
            attempt = await begun(keeper)
        except IdempotencyUnavailable:
            return
        await attempt.release()

    with capture_logs() as lines:
        await ask()
        for down in (True, True, False, False, True, False):
            store.down = down
            await ask()
            await asyncio.sleep(0.1)
    states = [(line["event"], line.get("refused")) for line in lines if "key" not in line["event"]]
    assert states == [("idempotency_unavailable", refused), ("idempotency_recovered", None)] * 2
    assert "it refuses connections" in lines[0]["error"]
    assert unavailable.grown == (3 if refused else 6)  # a key that cannot be released counts too


@virtual_time
async def test_log_names_a_cause_that_is_not_known() -> None:
    class Odd(MemoryStore):
        async def begin(self, claim: Claim, lease_seconds: float) -> Found:
            raise IdempotencyUnavailable("down") from ResponseError("odd")

    with capture_logs() as lines, pytest.raises(IdempotencyUnavailable):
        await begin(IdempotencyService(Odd(), POLICY))
    assert "ResponseError" in lines[0]["error"]


@virtual_time
async def test_responses_not_kept_are_logged_once_a_second_by_reason(
    keeper: IdempotencyService, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock(0.0)
    monkeypatch.setattr("platform_app.idempotency.service.time.monotonic", clock)
    logged = []
    for seconds, full in ((0, False), (0.5, True), (0.4, False), (0.1, False), (0.9, False), (0.1, False)):
        clock.advance(seconds)
        store.full = full
        store.forget()
        with capture_logs() as lines:
            await (await begun(keeper)).finish(ANSWER if full else StoredResponse(200, (), b"x" * 101))
        logged.append([line["reason"] for line in lines])
    assert logged == [["too_large"], ["memory_full"], [], ["too_large"], [], ["too_large"]]
