"""Bounds and side effects of a key lookup: rehashing, timeouts, and the pause between lookups during an outage."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError

from platform_app.auth import authenticator
from platform_app.auth.authenticator import PROBE_SECONDS, Authenticator, AuthPolicy
from platform_app.auth.cache import KeyCache
from platform_app.auth.keys.records import StoredKey, StoredSecret
from platform_app.auth.pepper import Peppers, parse_peppers
from platform_app.auth.tokens import Token, generate_token
from platform_app.errors import AuthUnavailable
from tests.support.auth.many_keys import LooksUpOneByOne
from tests.support.fakes.core import Count, FakeClock, key_record

ONE, TWO = "1a" * 32, "2b" * 32
ROTATED = parse_peppers("PEPPER", f"2:{TWO},1:{ONE}")
DOWN = OperationalError("SELECT", {}, Exception("down"))
TTL, STALE = 5.0, 300.0
FROZEN_SECONDS = 600.0
"""Longer than any test; a task that waits for an event which nothing sets would be collected while it is pending."""


class Keys(LooksUpOneByOne):
    """A key store of a dictionary that can fail or never respond."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredKey] = {}
        self.rehashed: list[tuple[bytes, bytes, int]] = []
        self.lookups = 0
        self.error: Exception | None = None
        self.frozen = False
        self.during_rehash: Callable[[], None] = lambda: None

    async def lookup(self, key_id: str) -> StoredKey | None:
        self.lookups += 1
        if self.frozen:
            await asyncio.sleep(FROZEN_SECONDS)
        if self.error is not None:
            raise self.error
        return self.stored.get(key_id)

    async def rehash(self, digest: bytes, new_digest: bytes, pepper_version: int) -> None:
        self.rehashed.append((digest, new_digest, pepper_version))
        self.during_rehash()
        if self.error is not None:
            raise self.error


class Rotated:
    """Peppers in the middle of a rotation: version 2 is current, version 1 still valid."""

    async def current(self) -> Peppers:
        return ROTATED


class World:
    def __init__(self) -> None:
        self.keys, self.clock = Keys(), FakeClock()
        self.auth = self.with_policy(AuthPolicy(TTL, STALE))

    def with_policy(self, policy: AuthPolicy) -> Authenticator:
        return Authenticator(self.keys, Rotated(), KeyCache(100), policy, self.clock)

    def add(self, version: int) -> tuple[Token, bytes]:
        token = generate_token("test")
        digest = ROTATED.digest(token.text, version)
        assert digest is not None
        self.keys.stored[token.key_id] = StoredKey(key_record(token.key_id), (StoredSecret(digest, version, None),))
        return token, digest


async def test_key_of_an_older_pepper_is_rehashed() -> None:
    world = World()
    token, old = world.add(version=1)
    await world.auth.authenticate(token.text)
    assert world.keys.rehashed == [(old, ROTATED.digest(token.text, 2), 2)]


async def test_key_of_the_current_pepper_is_not_rehashed() -> None:
    world = World()
    token, _ = world.add(version=2)
    await world.auth.authenticate(token.text)
    assert world.keys.rehashed == []


async def test_accepted_lookup_is_timed() -> None:
    world = World()
    token, _ = world.add(version=2)
    lookups = Count("platform_auth_lookup_duration_seconds_count")
    seconds = Count("platform_auth_lookup_duration_seconds_sum")
    await world.auth.authenticate(token.text)
    assert (lookups.grown, seconds.grown) == (1, 0)


@pytest.fixture
def timeouts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The timeouts of lookups in seconds; each has passed at once while the database is frozen."""
    seen: list[float] = []

    async def finished_within(task: "asyncio.Future[object]", seconds: float) -> bool:
        seen.append(seconds)
        await asyncio.sleep(0)
        return task.done()

    monkeypatch.setattr(authenticator, "finished_within", finished_within)
    return seen


async def test_frozen_database_has_two_seconds_for_an_unknown_key(timeouts: list[float]) -> None:
    world = World()
    token, _ = world.add(version=2)
    world.keys.frozen = True
    with pytest.raises(AuthUnavailable) as caught:
        await world.auth.authenticate(token.text)
    assert timeouts == [2]
    assert caught.value.retry_after == 1


async def test_frozen_database_has_250_ms_for_a_known_key(timeouts: list[float]) -> None:
    """Requests of known keys must not become slow."""
    world = World()
    token, _ = world.add(version=2)
    await world.auth.authenticate(token.text)
    world.keys.frozen = True
    world.clock.advance(TTL)
    stale = Count("platform_auth_total", outcome="stale")
    assert (await world.auth.authenticate(token.text)).key_id == token.key_id
    assert timeouts == [2, 0.25]
    assert stale.grown == 1


async def test_frozen_database_has_two_seconds_for_a_stale_key(timeouts: list[float]) -> None:
    """The caller is not accepted without the database, so a short timeout would only refuse it during a failover."""
    world = World()
    token, _ = world.add(version=2)
    await world.auth.authenticate(token.text)
    world.keys.frozen = True
    world.clock.advance(STALE)
    with pytest.raises(AuthUnavailable):
        await world.auth.authenticate(token.text)
    assert timeouts == [2, 2]


async def test_database_that_fails_gets_one_lookup_a_second() -> None:
    world = World()
    world.keys.error = DOWN
    for _ in range(3):
        with pytest.raises(AuthUnavailable):
            await world.auth.authenticate(generate_token("test").text)
    assert world.keys.lookups == 1
    world.clock.advance(PROBE_SECONDS)
    with pytest.raises(AuthUnavailable):
        await world.auth.authenticate(generate_token("test").text)
    assert world.keys.lookups == 2


async def test_limits_of_a_key_reach_its_caller() -> None:
    world = World()
    token, _ = world.add(version=2)
    stored = world.keys.stored[token.key_id]
    limits = {"key-rpm": 5}
    world.keys.stored[token.key_id] = replace(stored, record=replace(stored.record, limits=limits))
    assert (await world.auth.authenticate(token.text)).limits == limits


async def test_key_looked_up_within_its_ttl_counts_as_accepted() -> None:
    world = World()
    token, _ = world.add(version=2)
    await world.auth.authenticate(token.text)
    accepted = Count("platform_auth_total", outcome="accepted")
    world.clock.advance(TTL - 0.1)
    await world.auth.authenticate(token.text)
    assert accepted.grown == 1


async def test_key_counts_as_accepted_after_a_slow_rehash() -> None:
    """Without a cache, the lookup's own time must not make its result stale."""
    world = World()
    token, _ = world.add(version=1)
    world.keys.during_rehash = lambda: world.clock.advance(1.9)
    accepted = Count("platform_auth_total", outcome="accepted")
    await world.with_policy(AuthPolicy(ttl=0, stale=0)).authenticate(token.text)
    assert accepted.grown == 1
