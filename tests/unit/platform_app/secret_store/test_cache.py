"""The cache in front of a secret store: how long, how often, and what happens when the store is down."""

import asyncio
import time

import pytest

from platform_app.errors import SecretNotFound, SecretStoreUnavailable
from platform_app.secret_store import cache as cache_module
from platform_app.secret_store.base import Secret
from platform_app.secret_store.cache import CachedSecretStore
from tests.unit.fakes import FakeClock, FakeSecrets

TTL = 300.0


class Frozen(FakeSecrets):
    """Takes every question and answers none, until it is thawed."""

    frozen = True

    async def get(self, name: str) -> Secret:
        if self.frozen:
            self.asked.append(name)
            await asyncio.Event().wait()
        return await super().get(name)


def cached(store: FakeSecrets) -> tuple[CachedSecretStore, FakeClock]:
    clock = FakeClock()
    return CachedSecretStore(store, TTL, clock), clock


async def test_the_store_is_asked_again_after_the_ttl_only() -> None:
    store = FakeSecrets({"KEY": "old"})
    cache, clock = cached(store)
    assert await cache.get("KEY") == Secret("KEY", "old")
    store.values["KEY"] = "new"
    clock.advance(TTL - 0.001)
    assert (await cache.get("KEY")).value == "old"
    clock.advance(0.001)
    assert (await cache.get("KEY")).value == "new"
    assert store.asked == ["KEY", "KEY"]


async def test_names_are_cached_apart() -> None:
    store = FakeSecrets({"A": "1", "B": "2"})
    cache, _ = cached(store)
    assert [(await cache.get(name)).value for name in ("A", "B", "A", "B")] == ["1", "2", "1", "2"]
    assert store.asked == ["A", "B"]


async def test_fifty_at_once_ask_once() -> None:
    class Slow(FakeSecrets):
        async def get(self, name: str) -> Secret:
            await asyncio.sleep(0.01)
            return await super().get(name)

    store = Slow({"KEY": "v"})
    cache, _ = cached(store)
    secrets = await asyncio.gather(*(cache.get("KEY") for _ in range(50)))
    assert {secret.value for secret in secrets} == {"v"}
    assert store.asked == ["KEY"]


async def test_while_the_store_is_down_the_last_good_value_serves_until_twice_the_ttl() -> None:
    store = FakeSecrets({"KEY": "v"})
    cache, clock = cached(store)
    await cache.get("KEY")
    store.error = SecretStoreUnavailable("down")
    clock.advance(2 * TTL - 0.001)
    assert (await cache.get("KEY")).value == "v"
    clock.advance(2.0)
    with pytest.raises(SecretStoreUnavailable, match="down"):
        await cache.get("KEY")


async def test_the_last_good_value_is_replaced_once_the_store_answers() -> None:
    store = FakeSecrets({"KEY": "old"})
    cache, clock = cached(store)
    await cache.get("KEY")
    store.error = SecretStoreUnavailable("down")
    clock.advance(TTL)
    assert (await cache.get("KEY")).value == "old"
    store.error, store.values["KEY"] = None, "new"
    clock.advance(1.0)
    assert (await cache.get("KEY")).value == "new"


async def test_a_secret_that_was_removed_is_gone_after_the_ttl() -> None:
    store = FakeSecrets({"KEY": "v"})
    cache, clock = cached(store)
    await cache.get("KEY")
    store.values.clear()
    clock.advance(TTL)
    with pytest.raises(SecretNotFound):
        await cache.get("KEY")


async def test_a_removed_secret_does_not_come_back_when_the_store_goes_down() -> None:
    store = FakeSecrets({"KEY": "v"})
    cache, clock = cached(store)
    await cache.get("KEY")
    store.error = SecretStoreUnavailable("down")
    clock.advance(TTL)
    assert (await cache.get("KEY")).value == "v"
    store.error = None
    store.values.clear()
    clock.advance(1.0)
    with pytest.raises(SecretNotFound):
        await cache.get("KEY")
    store.error = SecretStoreUnavailable("down")
    with pytest.raises(SecretStoreUnavailable):
        await cache.get("KEY")


async def test_a_missing_secret_is_asked_for_again_at_once() -> None:
    store = FakeSecrets({})
    cache, _ = cached(store)
    with pytest.raises(SecretNotFound):
        await cache.get("KEY")
    store.values["KEY"] = "v"
    assert (await cache.get("KEY")).value == "v"


async def test_a_store_that_does_not_answer_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "FETCH_TIMEOUT_SECONDS", 0.02)
    cache, _ = cached(Frozen({}))
    with pytest.raises(SecretStoreUnavailable, match=r"'fake' did not answer within 0\.02 s"):
        await cache.get("KEY")


async def test_a_frozen_store_does_not_make_requests_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alone would wait for the timeout; one after the other they would for minutes."""
    monkeypatch.setattr(cache_module, "FETCH_TIMEOUT_SECONDS", 0.05)
    store = Frozen({"KEY": "v"})
    store.frozen = False
    cache, clock = cached(store)
    await cache.get("KEY")
    store.frozen = True
    clock.advance(TTL)
    started = time.perf_counter()
    secrets = await asyncio.gather(*(cache.get("KEY") for _ in range(50)))
    assert {secret.value for secret in secrets} == {"v"}
    assert time.perf_counter() - started < 0.5
    assert len(store.asked) == 2
    clock.advance(2 * TTL)
    started = time.perf_counter()
    outcomes = await asyncio.gather(*(cache.get("KEY") for _ in range(50)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {SecretStoreUnavailable}
    assert time.perf_counter() - started < 0.5


async def test_a_store_that_is_down_is_asked_at_most_once_a_second() -> None:
    store = FakeSecrets({"KEY": "v"})
    cache, clock = cached(store)
    await cache.get("KEY")
    store.error = SecretStoreUnavailable("down")
    clock.advance(TTL)
    store.asked.clear()
    for _ in range(100):  # ten seconds
        await cache.get("KEY")
        clock.advance(0.1)
    assert 9 <= len(store.asked) <= 11


async def test_a_cancelled_fetch_leaves_the_next_one_free() -> None:
    store = Frozen({"KEY": "v"})
    cache, _ = cached(store)
    first = asyncio.create_task(cache.get("KEY"))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    store.frozen = False
    assert (await asyncio.wait_for(cache.get("KEY"), 1)).value == "v"


async def test_closing_closes_the_store() -> None:
    store = FakeSecrets({})
    await CachedSecretStore(store, TTL).aclose()
    assert store.closed
    assert CachedSecretStore(store, TTL).scheme == "fake"
