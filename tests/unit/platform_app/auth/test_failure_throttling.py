"""The authenticator asks the throttle before a key that does not work costs anything, and counts each failure."""

import pytest

from platform_app.auth.authenticator import Authenticator, AuthPolicy, SecretPeppers
from platform_app.auth.cache import KeyCache
from platform_app.auth.keys.records import StoredKey, StoredSecret
from platform_app.auth.tokens import Token, generate_token
from platform_app.errors import AuthUnavailable, InvalidApiKey, RateLimited, SecretStoreUnavailable
from tests.support.fakes.core import Count, FakeClock, FakeSecrets, key_record

ADDRESS = "192.0.2.1"
ONE, TWO = "1a" * 32, "2b" * 32


class Throttle:
    """Counts failures, and refuses every address while `closed` is set."""

    def __init__(self) -> None:
        self.closed = False
        self.failures: list[str] = []

    def check(self, address: str) -> None:
        if self.closed:
            raise RateLimited("throttled", retry_after=1)

    async def failed(self, address: str) -> None:
        self.failures.append(address)


class Keys:
    """A key store of a dictionary that counts lookups."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredKey] = {}
        self.lookups = 0

    async def lookup(self, key_id: str) -> StoredKey | None:
        self.lookups += 1
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
    world.throttle.closed = True
    with pytest.raises(RateLimited):
        await world.auth.authenticate(bad.text, ADDRESS)
    assert world.keys.lookups == lookups


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
