"""From a key's text to a caller, with a fake key store, fake peppers and fake clocks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from platform_app.auth.authenticator import Authenticator, AuthPolicy, SecretPeppers
from platform_app.auth.cache import KeyCache
from platform_app.auth.keys.records import KeyRecord, StoredKey, StoredSecret
from platform_app.auth.pepper import Peppers, parse_peppers
from platform_app.auth.tokens import Token, generate_token
from platform_app.errors import AuthUnavailable, InvalidApiKey, SecretStoreUnavailable
from tests.support.fakes.core import Count, FakeClock, FakeSecrets, key_record

TTL, STALE = 5.0, 300.0
ONE, TWO = "1a" * 32, "2b" * 32
DOWN = OperationalError("SELECT", {}, Exception("down"))


class CountingPeppers(Peppers):
    """Counts digests: what an authentication costs."""

    digests = 0

    def digest(self, token: str, version: int | None = None) -> bytes | None:
        CountingPeppers.digests += 1
        return super().digest(token, version)


class FakePeppers:
    def __init__(self, text: str = ONE) -> None:
        self.peppers = parse_peppers("PEPPER", text)
        self.error: SecretStoreUnavailable | None = None

    async def current(self) -> Peppers:
        if self.error is not None:
            raise self.error
        return self.peppers


class FakeKeys:
    """A key store of a dictionary that can be down (`error`), slow (`gate`), and counts how often it is asked."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredKey] = {}
        self.asked = 0
        self.rehashed: list[tuple[bytes, bytes, int]] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def rehash(self, digest: bytes, new_digest: bytes, pepper_version: int) -> None:
        self.rehashed.append((digest, new_digest, pepper_version))

    async def lookup(self, key_id: str) -> StoredKey | None:
        self.asked += 1
        answer = self.stored.get(key_id)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return answer


class World:
    """An authenticator and everything that it meets."""

    def __init__(self) -> None:
        self.keys = FakeKeys()
        self.peppers = FakePeppers()
        self.cache = KeyCache(size=100)
        self.clock = FakeClock()
        self.today = datetime(2026, 7, 1, tzinfo=UTC)
        self.auth = Authenticator(
            self.keys, self.peppers, self.cache, AuthPolicy(TTL, STALE), self.clock, lambda: self.today
        )

    def add(
        self,
        change: Callable[[KeyRecord], KeyRecord] = lambda record: record,
        *,
        version: int = 1,
        not_after: datetime | None = None,
    ) -> Token:
        token = generate_token("test")
        digest = self.peppers.peppers.digest(token.text, version)
        assert digest is not None
        record = change(key_record(token.key_id))
        self.keys.stored[token.key_id] = StoredKey(record, (StoredSecret(digest, version, not_after),))
        return token

    def revoke(self, token: Token) -> None:
        stored = self.keys.stored[token.key_id]
        self.keys.stored[token.key_id] = replace(stored, record=replace(stored.record, revoked_at=self.today))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(autouse=True)
async def nothing_hangs(task_failures: list[str]) -> AsyncIterator[None]:
    """No test may take long, and no exception may be left behind unseen."""
    async with asyncio.timeout(300):
        yield
    await asyncio.sleep(0)
    assert task_failures == []


async def test_a_good_key_becomes_its_caller(world: World) -> None:
    token = world.add(lambda record: replace(record, scopes=["platform:*"], allowed_models=["gpt-4o"], owner="team-b"))
    accepted = Count("platform_auth_total", outcome="accepted")
    caller = await world.auth.authenticate(token.text)
    assert (caller.key_id, caller.owner, caller.environment) == (token.key_id, "team-b", "test")
    assert caller.scopes == {"platform:*"}
    assert caller.allowed_models == frozenset({"gpt-4o"})
    assert accepted.grown == 1


@pytest.mark.parametrize("text", ["", "fbp_live_x", "sk-proj-abc", "fbp_test_" + "a" * 12 + "_" + "b" * 39])
async def test_a_bad_checksum_or_form_never_touches_the_store(world: World, text: str) -> None:
    world.peppers.error = SecretStoreUnavailable("not to be asked either")
    malformed = Count("platform_auth_total", outcome="malformed")
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(text)
    assert world.keys.asked == 0
    assert len(world.cache) == 0
    assert malformed.grown == 1


async def test_unknown_revoked_and_expired_get_one_and_the_same_error(world: World) -> None:
    unknown = generate_token("test")
    revoked = world.add(lambda record: replace(record, revoked_at=world.today))
    expired = world.add(lambda record: replace(record, expires_at=world.today - timedelta(seconds=1)))
    # The id of a good key with another secret.
    forged = generate_token("test", world.add().key_id)
    errors = []
    for token in (unknown, revoked, expired, forged):
        with pytest.raises(InvalidApiKey) as caught:
            await world.auth.authenticate(token.text)
        errors.append((caught.value.message, caught.value.headers, caught.value.details))
    assert errors == [errors[0]] * 4


async def test_the_store_is_asked_again_after_the_ttl_only(world: World) -> None:
    token = world.add()
    await world.auth.authenticate(token.text)
    world.clock.advance(TTL - 0.001)
    await world.auth.authenticate(token.text)
    assert world.keys.asked == 1
    world.clock.advance(0.001)
    await world.auth.authenticate(token.text)
    assert world.keys.asked == 2


async def test_a_revocation_is_seen_after_the_ttl_and_at_once_after_forget(world: World) -> None:
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


async def test_refusals_are_remembered_for_the_ttl(world: World) -> None:
    token = generate_token("test")
    for _ in range(5):
        with pytest.raises(InvalidApiKey):
            await world.auth.authenticate(token.text)
    assert world.keys.asked == 1
    world.clock.advance(TTL)
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)
    assert world.keys.asked == 2


async def test_fifty_at_once_ask_the_store_once(world: World) -> None:
    token = world.add()
    world.keys.gate = asyncio.Event()
    tasks = [asyncio.create_task(world.auth.authenticate(token.text)) for _ in range(50)]
    await asyncio.sleep(0.01)
    assert world.keys.asked == 1
    world.keys.gate.set()
    assert {caller.key_id for caller in await asyncio.gather(*tasks)} == {token.key_id}
    assert world.keys.asked == 1


async def test_different_keys_do_not_wait_for_each_other(world: World) -> None:
    slow, quick = world.add(), world.add()
    world.keys.gate = asyncio.Event()
    waiting = asyncio.create_task(world.auth.authenticate(slow.text))
    await asyncio.sleep(0.01)
    gate, world.keys.gate = world.keys.gate, None
    assert (await world.auth.authenticate(quick.text)).key_id == quick.key_id
    gate.set()
    await waiting


async def test_a_cancelled_first_request_does_not_hang_the_others(world: World) -> None:
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


async def test_a_cancelled_waiter_disturbs_nobody(world: World) -> None:
    token = world.add()
    world.keys.gate = asyncio.Event()
    tasks = [asyncio.create_task(world.auth.authenticate(token.text)) for _ in range(3)]
    await asyncio.sleep(0.01)
    tasks[1].cancel()
    world.keys.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Caller", "CancelledError", "Caller"]


async def test_a_bug_in_the_store_reaches_its_request_and_hangs_nobody(world: World) -> None:
    token = world.add()
    world.keys.error = ZeroDivisionError()
    world.keys.gate = asyncio.Event()
    tasks = [asyncio.create_task(world.auth.authenticate(token.text)) for _ in range(2)]
    await asyncio.sleep(0.01)
    world.keys.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["ZeroDivisionError", "AuthUnavailable"]


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
async def test_while_the_database_is_down_recent_callers_go_on(world: World, error: Exception) -> None:
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


async def test_while_the_database_is_down_unknown_keys_are_unavailable_not_invalid(world: World) -> None:
    world.keys.error = DOWN
    with pytest.raises(AuthUnavailable):
        await world.auth.authenticate(generate_token("test").text)
    assert len(world.cache) == 0


async def test_a_refusal_stays_one_while_the_database_is_down(world: World) -> None:
    token = generate_token("test")
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)
    world.keys.error = DOWN
    world.clock.advance(TTL)
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)


async def test_a_database_that_is_down_is_asked_at_most_once_a_second(world: World) -> None:
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


async def test_one_request_probes_a_frozen_database_and_the_others_do_not_wait(world: World) -> None:
    tokens = [world.add() for _ in range(20)]
    for token in tokens:
        await world.auth.authenticate(token.text)
    world.keys.error = DOWN
    world.clock.advance(TTL)
    await world.auth.authenticate(tokens[0].text)
    world.clock.advance(1.0)
    world.keys.asked, world.keys.gate = 0, asyncio.Event()  # it takes the question and does not answer
    tasks = [asyncio.create_task(world.auth.authenticate(token.text)) for token in tokens]
    await asyncio.sleep(0.01)
    assert world.keys.asked == 1
    assert sum(task.done() for task in tasks) == 19
    world.keys.gate.set()
    await asyncio.gather(*tasks)


async def test_the_database_is_used_again_once_it_answers(world: World) -> None:
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


async def test_expiry_counts_when_the_key_is_used_without_asking_the_store(world: World) -> None:
    token = world.add(lambda record: replace(record, expires_at=world.today + timedelta(seconds=3)))
    await world.auth.authenticate(token.text)
    world.today += timedelta(seconds=2.9)
    await world.auth.authenticate(token.text)
    world.today += timedelta(seconds=0.1)
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)
    assert world.keys.asked == 1


async def test_a_secret_ends_with_its_grace_period_before_its_key_does(world: World) -> None:
    token = world.add(
        lambda record: replace(record, expires_at=world.today + timedelta(days=1)),
        not_after=world.today + timedelta(seconds=3),
    )
    await world.auth.authenticate(token.text)
    world.today += timedelta(seconds=3)
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)


async def test_both_secrets_of_a_rotated_key_work(world: World) -> None:
    old = world.add()
    new = generate_token("test", old.key_id)
    digest = world.peppers.peppers.digest(new.text)
    assert digest is not None
    stored = world.keys.stored[old.key_id]
    world.keys.stored[old.key_id] = replace(stored, secrets=(*stored.secrets, StoredSecret(digest, 1, None)))
    assert (await world.auth.authenticate(old.text)).key_id == old.key_id
    assert (await world.auth.authenticate(new.text)).key_id == old.key_id


async def test_keys_of_both_live_peppers_are_accepted(world: World) -> None:
    world.peppers.peppers = parse_peppers("PEPPER", f"1:{ONE},2:{TWO}")
    for version in (1, 2):
        token = world.add(version=version)
        assert (await world.auth.authenticate(token.text)).key_id == token.key_id


async def test_a_digest_counts_under_its_own_pepper_only(world: World) -> None:
    world.peppers.peppers = parse_peppers("PEPPER", f"1:{ONE},2:{TWO}")
    token = world.add(version=1)
    stored = world.keys.stored[token.key_id]
    world.keys.stored[token.key_id] = replace(stored, secrets=(replace(stored.secrets[0], pepper_version=2),))
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)


async def test_a_retired_pepper_retires_its_keys(world: World) -> None:
    token = world.add(version=1)
    world.peppers.peppers = parse_peppers("PEPPER", f"2:{TWO}")
    with pytest.raises(InvalidApiKey):
        await world.auth.authenticate(token.text)


async def test_unknown_and_known_keys_cost_the_same_digests(world: World) -> None:
    world.peppers.peppers = parse_peppers("PEPPER", f"1:{ONE},2:{TWO}")
    known, revoked = world.add(version=1), world.add(version=2)
    world.revoke(revoked)
    forged = generate_token("test", known.key_id)
    counting = CountingPeppers(world.peppers.peppers.by_version, 2)
    world.peppers.peppers = counting
    costs = []
    for token in (known, revoked, forged, generate_token("test")):
        CountingPeppers.digests = 0
        await asyncio.gather(world.auth.authenticate(token.text), return_exceptions=True)
        costs.append(CountingPeppers.digests)
    assert costs == [3] * 4  # the cache's key, and one for each live pepper


@pytest.mark.parametrize(
    "invalidate", [lambda cache, token: cache.forget(token.key_id), lambda cache, _: cache.clear()]
)
async def test_a_lookup_that_an_invalidation_overtook_is_not_stored(
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


async def test_without_a_pepper_nobody_is_told_that_a_key_is_bad(world: World) -> None:
    world.peppers.error = SecretStoreUnavailable("down")
    with pytest.raises(AuthUnavailable):
        await world.auth.authenticate(world.add().text)
    assert world.keys.asked == 0


async def test_peppers_are_parsed_again_only_when_the_secret_changes() -> None:
    secrets = FakeSecrets({"PEPPER": ONE})
    peppers = SecretPeppers(secrets, "PEPPER")
    first = await peppers.current()
    assert await peppers.current() is first
    secrets.values["PEPPER"] = f"2:{TWO},1:{ONE}"
    assert (await peppers.current()).current == 2
    assert secrets.asked == ["PEPPER"] * 3
