"""While the database or the pepper is unavailable."""

import asyncio
import gc

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from structlog.testing import capture_logs

from platform_app.auth import authenticator
from platform_app.auth.tokens import generate_token
from platform_app.errors import AuthUnavailable, InvalidApiKey, SecretStoreUnavailable
from tests.support.auth.authenticator import DOWN, STALE, TTL, World
from tests.support.fakes.core import Count
from tests.support.timing.virtual_time import virtual_time


@pytest.mark.parametrize(
    "error",
    [
        DOWN,
        TimeoutError(),
        ConnectionRefusedError(),
        # What SQLAlchemy raises for a pool without a free connection, and for server errors that it has no class
        # for: too many clients, a session cut off by the administrator.
        PoolTimeout("QueuePool limit"),
        DBAPIError("SELECT", {}, Exception("sorry, too many clients already")),
    ],
)
async def test_recent_callers_are_accepted_without_database(world: World, error: Exception) -> None:
    token = world.add()
    await world.auth.authenticate(token.text)
    world.keys.error = error
    stale = Count("platform_auth_total", outcome="stale")
    world.clock.advance(STALE - 0.001)
    assert (await world.auth.authenticate(token.text)).key_id == token.key_id
    assert stale.grown == 1
    world.clock.advance(0.001)
    unavailable = Count("platform_auth_total", outcome="unavailable")
    with pytest.raises(AuthUnavailable) as caught:
        await world.auth.authenticate(token.text)
    assert caught.value.retry_after == 1
    assert unavailable.grown == 1


async def test_unknown_key_without_database_is_unavailable(world: World) -> None:
    world.keys.error = DOWN
    with pytest.raises(AuthUnavailable):
        await world.auth.authenticate(generate_token("test").text)
    assert len(world.cache) == 0


async def test_cached_refusal_holds_without_database(world: World) -> None:
    token = generate_token("test")
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)
    world.keys.error = DOWN
    world.clock.advance(TTL)
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)


async def test_database_that_is_down_gets_one_lookup_a_second(world: World) -> None:
    tokens = [world.add() for _ in range(20)]
    for token in tokens:
        await world.auth.authenticate(token.text)
    world.keys.error = DOWN
    world.clock.advance(TTL)
    await world.auth.authenticate(tokens[0].text)
    world.keys.asked = 0
    for _ in range(50):  # five seconds
        world.clock.advance(0.1)
        for token in tokens:
            await world.auth.authenticate(token.text)
    assert 4 <= world.keys.asked <= 5


@virtual_time
async def test_frozen_database_delays_only_one_request(world: World) -> None:
    tokens = [world.add() for _ in range(20)]
    for token in tokens:
        await world.auth.authenticate(token.text)
    world.keys.error = DOWN
    world.clock.advance(TTL)
    await world.auth.authenticate(tokens[0].text)
    world.clock.advance(1.0)
    world.keys.asked, world.keys.gate = 0, asyncio.Event()  # it accepts the query and does not respond
    tasks = [asyncio.create_task(world.auth.authenticate(token.text)) for token in tokens]
    await asyncio.sleep(0.01)
    assert world.keys.asked == 1
    assert sum(task.done() for task in tasks) == 19
    world.keys.gate.set()
    await asyncio.gather(*tasks)


async def test_recovered_database_is_used_again(world: World) -> None:
    token, new = world.add(), world.add()
    await world.auth.authenticate(token.text)
    world.keys.error = DOWN
    world.clock.advance(TTL)
    await world.auth.authenticate(token.text)
    world.keys.error = None
    world.revoke(token)
    world.clock.advance(1.0)
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)
    # From here on no key waits for a probe.
    assert (await world.auth.authenticate(new.text)).key_id == new.key_id


async def test_missing_pepper_is_unavailable_not_invalid(world: World) -> None:
    world.peppers.error = SecretStoreUnavailable("down")
    with pytest.raises(AuthUnavailable):
        await world.auth.authenticate(world.add().text)
    assert world.keys.asked == 0


async def test_each_outage_and_recovery_is_logged_once(world: World) -> None:
    with capture_logs() as lines:
        for error in (None, DOWN, DOWN, None, None, DOWN):
            world.keys.error = error
            await asyncio.gather(world.auth.authenticate(world.add().text), return_exceptions=True)
            world.clock.advance(1.0)
    events = [line["event"] for line in lines]
    assert events == ["auth_database_unavailable", "auth_database_recovered", "auth_database_unavailable"]


async def test_failed_lookup_without_a_waiter_reports_no_error(world: World, task_failures: list[str]) -> None:
    """Other requests could wait for its result; here there are none."""
    world.keys.error = DOWN
    with pytest.raises(AuthUnavailable):
        await world.auth.authenticate(generate_token("test").text)
    gc.collect()
    assert task_failures == []


@pytest.mark.parametrize("ending", ["fails", "is cancelled"])
async def test_lookup_that_ends_after_its_timeout_reports_no_error(
    world: World, task_failures: list[str], monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """The lookup continues after its timeout, when no request waits for it any more."""

    async def never_in_time(task: "asyncio.Future[object]", seconds: float) -> bool:
        await asyncio.sleep(0)
        return False

    monkeypatch.setattr(authenticator, "finished_within", never_in_time)
    world.keys.gate, world.keys.error = asyncio.Event(), DOWN
    before = asyncio.all_tasks()
    with pytest.raises(AuthUnavailable):
        await world.auth.authenticate(generate_token("test").text)
    [lookup] = asyncio.all_tasks() - before
    if ending == "fails":
        world.keys.gate.set()
    else:
        lookup.cancel()
    await asyncio.wait({lookup})
    await asyncio.sleep(0)
    del lookup
    gc.collect()
    assert task_failures == []
