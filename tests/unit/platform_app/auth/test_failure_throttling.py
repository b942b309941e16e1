"""The authenticator asks the throttle before a key that does not work costs anything, and counts each failure."""

import asyncio

import pytest

from platform_app.auth import throttled_lookups
from platform_app.auth.authenticator import Authenticator, AuthPolicy, SecretPeppers
from platform_app.auth.cache import KeyCache
from platform_app.auth.caller import Caller
from platform_app.auth.keys.records import StoredKey, StoredSecret
from platform_app.auth.tokens import Token, generate_token
from platform_app.errors import AuthUnavailable, InvalidApiKey, RateLimited, SecretStoreUnavailable
from tests.support.auth.many_keys import LooksUpOneByOne
from tests.support.fakes.core import Count, FakeClock, FakeSecrets, key_record

ADDRESS = "192.0.2.1"
ONE, TWO = "1a" * 32, "2b" * 32


class Throttle:
    """Counts failures, and refuses every address while `closed` is set."""

    def __init__(self) -> None:
        self.closed = False
        self.failures: list[str] = []

    def refusal(self, address: str) -> RateLimited | None:
        return RateLimited("throttled", retry_after=1) if self.closed else None

    async def failed(self, address: str) -> None:
        self.failures.append(address)


class Keys(LooksUpOneByOne):
    """A key store of a dictionary that counts lookups."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredKey] = {}
        self.lookups = 0
        self.error: Exception | None = None

    async def lookup(self, key_id: str) -> StoredKey | None:
        self.lookups += 1
        if self.error is not None:
            raise self.error
        return self.stored.get(key_id)

    async def rehash(self, digest: bytes, new_digest: bytes, pepper_version: int) -> None:
        raise AssertionError("the pepper did not change")


class World:
    def __init__(self) -> None:
        self.keys, self.throttle, self.clock = Keys(), Throttle(), FakeClock()
        self.secrets = FakeSecrets({"PEPPER": ONE})
        self.peppers = SecretPeppers(self.secrets, "PEPPER")
        policy = AuthPolicy(ttl=5, stale=300)
        self.auth = Authenticator(self.keys, self.peppers, KeyCache(100), policy, self.clock, throttle=self.throttle)

    async def add(self) -> Token:
        token = generate_token("test")
        digest = (await self.peppers.current()).digest(token.text)
        assert digest is not None
        self.keys.stored[token.key_id] = StoredKey(key_record(token.key_id), (StoredSecret(digest, 1, None),))
        return token


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("known", [False, True])
async def test_bad_key_while_throttled_is_refused(world: World, known: bool) -> None:
    """Also a bad key that the cache knows: a client that repeats one key is throttled as one that guesses."""
    bad = generate_token("test")
    if known:
        with pytest.raises(InvalidApiKey):
            await world.auth.authenticate(bad.text, ADDRESS)
    lookups = world.keys.lookups
    refused, throttled = Count("platform_auth_total", outcome="refused"), Count("platform_auth_throttled_total")
    world.throttle.closed = True
    for _ in range(3):
        with pytest.raises(RateLimited):
            await world.auth.authenticate(bad.text, ADDRESS)
    assert world.keys.lookups == lookups + (not known), "a key that is known to be bad is not looked up"
    assert (refused.grown, throttled.grown) == (0, 3)
    assert len(world.throttle.failures) == known


async def test_malformed_key_while_throttled_is_refused(world: World) -> None:
    world.throttle.closed = True
    with pytest.raises(RateLimited):
        await world.auth.authenticate("sk-something", ADDRESS)


async def test_known_good_key_while_throttled_is_accepted(world: World) -> None:
    good = await world.add()
    await world.auth.authenticate(good.text, ADDRESS)
    world.throttle.closed = True
    assert (await world.auth.authenticate(good.text, ADDRESS)).key_id == good.key_id
    world.clock.now += 5
    assert (await world.auth.authenticate(good.text, ADDRESS)).key_id == good.key_id


async def test_unknown_good_key_while_throttled_is_accepted(world: World) -> None:
    """A client is never refused because of other clients of its address."""
    good, bad = await world.add(), generate_token("test")
    throttled = Count("platform_auth_throttled_total")
    world.throttle.closed = True
    results = await asyncio.gather(
        *(world.auth.authenticate(token.text, ADDRESS) for token in (bad, good, good)), return_exceptions=True
    )
    refused, first, second = results
    assert isinstance(refused, RateLimited)
    assert isinstance(first, Caller)
    assert first == second
    assert first.key_id == good.key_id
    assert throttled.grown == 1


async def test_too_many_unknown_keys_while_throttled_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttled_lookups, "MAX_WAITING", 2)
    world.throttle.closed = True
    tokens = [generate_token("test") for _ in range(5)]
    results = await asyncio.gather(
        *(world.auth.authenticate(token.text, ADDRESS) for token in tokens), return_exceptions=True
    )
    assert [type(result) for result in results] == [RateLimited] * 5
    assert world.keys.lookups == 2


async def test_database_failure_while_throttled_is_unavailable(world: World) -> None:
    good = await world.add()
    world.keys.error = OSError("refused")
    world.throttle.closed = True
    with pytest.raises(AuthUnavailable):
        await world.auth.authenticate(good.text, ADDRESS)


async def test_each_failure_is_counted_for_its_address(world: World) -> None:
    good, bad = await world.add(), generate_token("test")
    refused = Count("platform_auth_total", outcome="refused")
    await world.auth.authenticate(good.text, ADDRESS)
    assert world.throttle.failures == []
    for text in (bad.text, bad.text, "sk-something"):
        with pytest.raises(InvalidApiKey):
            await world.auth.authenticate(text, ADDRESS)
    assert world.throttle.failures == [ADDRESS] * 3
    assert refused.grown == 2


async def test_unavailable_pepper_counts_no_failure(world: World) -> None:
    good = await world.add()
    unavailable = Count("platform_auth_total", outcome="unavailable")
    world.secrets.error = SecretStoreUnavailable("down")
    with pytest.raises(AuthUnavailable) as caught:
        await world.auth.authenticate(good.text, ADDRESS)
    assert caught.value.retry_after == 1
    assert world.throttle.failures == []
    assert unavailable.grown == 1


async def test_pepper_that_returns_to_an_earlier_text_is_used() -> None:
    secrets = FakeSecrets({"PEPPER": ONE})
    peppers = SecretPeppers(secrets, "PEPPER")
    first = await peppers.current()
    secrets.values["PEPPER"] = f"2:{TWO}"
    assert (await peppers.current()).current == 2
    secrets.values["PEPPER"] = ONE
    again = await peppers.current()
    assert (again.current, again.digest("fbp")) == (1, first.digest("fbp"))
