"""Verification, caching and sharing of lookups."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from platform_app.auth.cache import KeyCache
from platform_app.auth.tokens import Token, generate_token
from platform_app.errors import AuthUnavailable, InvalidApiKey, SecretStoreUnavailable
from tests.support.auth.authenticator import TTL, World
from tests.support.fakes.core import Count
from tests.support.timing.virtual_time import virtual_time


async def test_valid_key_returns_its_caller(world: World) -> None:
    token = world.add(lambda record: replace(record, scopes=["platform:*"], allowed_models=["gpt-4o"], owner="team-b"))
    accepted = Count("platform_auth_total", outcome="accepted")
    caller = await world.auth.authenticate(token.text)
    assert (caller.key_id, caller.owner, caller.environment) == (token.key_id, "team-b", "test")
    assert caller.scopes == {"platform:*"}
    assert caller.allowed_models == frozenset({"gpt-4o"})
    assert accepted.grown == 1


@pytest.mark.parametrize("text", ["", "fbp_live_x", "sk-proj-abc", "fbp_test_" + "a" * 12 + "_" + "b" * 39])
async def test_malformed_key_is_refused_without_lookup(world: World, text: str) -> None:
    world.peppers.error = SecretStoreUnavailable("not to be asked either")
    malformed = Count("platform_auth_total", outcome="malformed")
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(text)
    assert world.keys.asked == 0
    assert len(world.cache) == 0
    assert malformed.grown == 1


async def test_unknown_revoked_and_expired_keys_get_same_error(world: World) -> None:
    unknown = generate_token("test")
    revoked = world.add(lambda record: replace(record, revoked_at=world.today))
    expired = world.add(lambda record: replace(record, expires_at=world.today - timedelta(seconds=1)))
    # The id of a good key with another secret.
    forged = generate_token("test", world.add().key_id)
    errors = []
    for token in (unknown, revoked, expired, forged):
        with pytest.raises(InvalidApiKey) as caught:
            await world.auth.authenticate(token.text)
        errors.append((caught.value.message, caught.value.details))
    assert errors == [errors[0]] * 4


async def test_cached_key_is_looked_up_again_after_ttl(world: World) -> None:
    token = world.add()
    await world.auth.authenticate(token.text)
    world.clock.advance(TTL - 0.001)
    await world.auth.authenticate(token.text)
    assert world.keys.asked == 1
    world.clock.advance(0.001)
    await world.auth.authenticate(token.text)
    assert world.keys.asked == 2


async def test_revocation_is_noticed_after_ttl_or_event(world: World) -> None:
    token, other = world.add(), world.add()
    await world.auth.authenticate(token.text)
    await world.auth.authenticate(other.text)
    world.revoke(token)
    world.revoke(other)
    await world.auth.authenticate(token.text)
    world.cache.forget(token.key_id)
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)
    await world.auth.authenticate(other.text)
    world.clock.advance(TTL)
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(other.text)


async def test_refusal_is_cached_for_ttl(world: World) -> None:
    token = generate_token("test")
    for _ in range(5):
        with pytest.raises(InvalidApiKey):
            await world.auth.authenticate(token.text)
    assert world.keys.asked == 1
    world.clock.advance(TTL)
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)
    assert world.keys.asked == 2


@virtual_time
async def test_concurrent_requests_share_one_lookup(world: World) -> None:
    token = world.add()
    world.keys.gate = asyncio.Event()
    tasks = [asyncio.create_task(world.auth.authenticate(token.text)) for _ in range(50)]
    await asyncio.sleep(0.01)
    assert world.keys.asked == 1
    world.keys.gate.set()
    assert {caller.key_id for caller in await asyncio.gather(*tasks)} == {token.key_id}
    assert world.keys.asked == 1


@virtual_time
async def test_lookups_of_different_keys_run_concurrently(world: World) -> None:
    slow, quick = world.add(), world.add()
    world.keys.gate = asyncio.Event()
    waiting = asyncio.create_task(world.auth.authenticate(slow.text))
    await asyncio.sleep(0.01)
    gate, world.keys.gate = world.keys.gate, None
    assert (await world.auth.authenticate(quick.text)).key_id == quick.key_id
    gate.set()
    await waiting


@virtual_time
async def test_cancelled_first_request_does_not_block_waiters(world: World) -> None:
    token = world.add()
    world.keys.gate = asyncio.Event()
    first = asyncio.create_task(world.auth.authenticate(token.text))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(world.auth.authenticate(token.text)) for _ in range(3)]
    await asyncio.sleep(0.01)
    first.cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 60)
    assert all(isinstance(outcome, AuthUnavailable) for outcome in outcomes)
    assert first.cancelled()
    world.keys.gate.set()
    assert (await world.auth.authenticate(token.text)).key_id == token.key_id


@virtual_time
async def test_cancelled_waiter_does_not_affect_others(world: World) -> None:
    token = world.add()
    world.keys.gate = asyncio.Event()
    tasks = [asyncio.create_task(world.auth.authenticate(token.text)) for _ in range(3)]
    await asyncio.sleep(0.01)
    tasks[1].cancel()
    world.keys.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Caller", "CancelledError", "Caller"]


@virtual_time
async def test_store_bug_raises_and_does_not_block_waiters(world: World) -> None:
    token = world.add()
    world.keys.error = ZeroDivisionError()
    world.keys.gate = asyncio.Event()
    tasks = [asyncio.create_task(world.auth.authenticate(token.text)) for _ in range(2)]
    await asyncio.sleep(0.01)
    world.keys.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["ZeroDivisionError", "AuthUnavailable"]


async def test_cached_key_expires_without_lookup(world: World) -> None:
    token = world.add(lambda record: replace(record, expires_at=world.today + timedelta(seconds=3)))
    await world.auth.authenticate(token.text)
    world.today += timedelta(seconds=2.9)
    await world.auth.authenticate(token.text)
    world.today += timedelta(seconds=0.1)
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)
    assert world.keys.asked == 1


@pytest.mark.parametrize(
    "invalidate", [lambda cache, token: cache.forget(token.key_id), lambda cache, _: cache.clear()]
)
@virtual_time
async def test_lookup_from_before_event_is_not_cached(
    world: World, invalidate: Callable[[KeyCache, Token], None]
) -> None:
    token = world.add()
    world.keys.gate = asyncio.Event()
    waiting = asyncio.create_task(world.auth.authenticate(token.text))
    await asyncio.sleep(0.01)  # the row was read, and then:
    world.revoke(token)
    invalidate(world.cache, token)
    world.keys.gate.set()
    await waiting
    assert len(world.cache) == 0
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)
