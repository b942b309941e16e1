"""The cache in front of a secret store: how long, how often, and what happens when the store is down."""

import asyncio
import contextlib

import pytest

from platform_app.errors import SecretNotFound, SecretStoreUnavailable
from platform_app.secret_store import cache as cache_module
from platform_app.secret_store.base import Secret
from platform_app.secret_store.cache import FETCH_TIMEOUT_SECONDS, PROBE_SECONDS, REFETCH_SECONDS, CachedSecretStore
from tests.support.fakes.cached_secrets import DUE, TTL, Gated, at_once, cached, settle
from tests.support.fakes.core import FakeSecrets
from tests.support.timing.virtual_time import now, virtual_time


async def test_cache_fresh_value_causes_no_second_look_up() -> None:
    store = FakeSecrets({"KEY": "v"})
    cache, clock = cached(store)
    assert await cache.get("KEY") == Secret("KEY", "v")
    clock.advance(0.7 * TTL)
    assert await at_once(cache) == "v"
    await settle()
    assert store.asked == ["KEY"]


async def test_cache_refreshes_in_background_without_waiting() -> None:
    store = Gated({"KEY": "old"})
    cache, clock = cached(store)
    await cache.get("KEY")
    store.values["KEY"] = "new"
    store.open.clear()
    clock.advance(DUE)
    assert [await at_once(cache) for _ in range(50)] == ["old"] * 50
    await settle()
    assert await at_once(cache) == "old"
    assert store.asked == ["KEY", "KEY"], "one look-up for all of them"
    store.open.set()
    await settle()
    assert await at_once(cache) == "new"


async def test_cache_refreshes_without_requests() -> None:
    store = FakeSecrets({"KEY": "old"})
    cache, clock = cached(store, refresh_seconds=1.0)
    await cache.get("KEY")
    store.values["KEY"] = "new"
    clock.advance(1.0)
    cache.refresh_due()
    await settle()
    assert await at_once(cache) == "new"


async def test_run_refreshes_until_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "PROBE_SECONDS", 0.01)
    store = FakeSecrets({"KEY": "old"})
    cache = CachedSecretStore(store, ttl_seconds=60, refresh_seconds=0.01)
    await cache.get("KEY")
    running = asyncio.create_task(cache.run())
    store.values["KEY"] = "new"
    for _ in range(200):
        await asyncio.sleep(0.01)
        if (await at_once(cache)) == "new":
            break
    else:
        pytest.fail("never refreshed")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await cache.aclose()


async def test_processes_do_not_refresh_at_the_same_moment() -> None:
    due = set()
    for _ in range(20):
        cache, _clock = cached(FakeSecrets({"KEY": "v"}))
        await cache.get("KEY")
        due.add(cache._entries["KEY"].refresh_at - cache._entries["KEY"].fetched_at)
    assert len(due) > 10
    assert 0.9 * DUE <= min(due) <= max(due) <= DUE


async def test_cache_has_one_entry_per_name() -> None:
    store = FakeSecrets({"A": "1", "B": "2"})
    cache, _ = cached(store)
    assert [(await cache.get(name)).value for name in ("A", "B", "A", "B")] == ["1", "2", "1", "2"]
    assert store.asked == ["A", "B"]


async def test_cache_concurrent_requests_share_one_look_up() -> None:
    store = Gated({"KEY": "v"})
    store.open.clear()
    cache, _ = cached(store)
    asking = [asyncio.create_task(cache.get("KEY")) for _ in range(50)]
    await settle()
    store.open.set()
    assert {secret.value for secret in await asyncio.gather(*asking)} == {"v"}
    assert store.asked == ["KEY"]


async def test_cache_store_down_serves_value_until_twice_ttl() -> None:
    store = FakeSecrets({"KEY": "v"})
    cache, clock = cached(store)
    await cache.get("KEY")
    store.error = SecretStoreUnavailable("down")
    clock.advance(2 * TTL - 0.001)
    assert await at_once(cache) == "v"
    await settle()
    assert await at_once(cache) == "v"
    clock.advance(0.001)
    with pytest.raises(SecretStoreUnavailable, match=r"^down$"):
        await cache.get("KEY")


async def test_cache_recovers_when_the_store_recovers() -> None:
    store = FakeSecrets({"KEY": "old"})
    cache, clock = cached(store)
    await cache.get("KEY")
    store.error = SecretStoreUnavailable("down")
    clock.advance(3 * TTL)
    for _ in range(2):  # the first one waits, since nothing was known of an outage
        with pytest.raises(SecretStoreUnavailable):
            await cache.get("KEY")
    store.error, store.values["KEY"] = None, "new"
    clock.advance(PROBE_SECONDS)
    cache.refresh_due()
    await settle()
    assert await at_once(cache) == "new"


async def test_cache_probes_unavailable_store_once_a_second() -> None:
    store = FakeSecrets({"KEY": "v"})
    cache, clock = cached(store)
    await cache.get("KEY")
    store.error = SecretStoreUnavailable("down")
    clock.advance(TTL)
    store.asked.clear()
    for _ in range(100):  # ten seconds
        await cache.get("KEY")
        await settle()
        clock.advance(0.1)
    assert 9 <= len(store.asked) <= 11


async def test_cache_drops_a_secret_that_is_missing_twice() -> None:
    store = FakeSecrets({"KEY": "v"})
    cache, clock = cached(store)
    await cache.get("KEY")
    store.values.clear()
    clock.advance(DUE)
    cache.refresh_due()
    await settle()
    assert await at_once(cache) == "v", "it may be missing only while it is being replaced"
    clock.advance(PROBE_SECONDS)
    cache.refresh_due()
    await settle()
    with pytest.raises(SecretNotFound):
        await cache.get("KEY")
    store.error = SecretStoreUnavailable("down")
    clock.advance(PROBE_SECONDS)
    cache.refresh_due()
    await settle()
    with pytest.raises(SecretStoreUnavailable):
        await cache.get("KEY")


async def test_cache_looks_up_a_missing_secret_after_a_second() -> None:
    store = FakeSecrets({})
    cache, clock = cached(store)
    for _ in range(10):
        with pytest.raises(SecretNotFound):
            await cache.get("KEY")
    assert store.asked == ["KEY"]
    store.values["KEY"] = "v"
    clock.advance(PROBE_SECONDS)
    cache.refresh_due()
    await settle()
    assert await at_once(cache) == "v"


@virtual_time
async def test_cache_unresponsive_store_times_out() -> None:
    store = Gated({})
    store.open.clear()
    cache, _ = cached(store)
    started = now()
    with pytest.raises(SecretStoreUnavailable, match=f"'fake' did not respond within {FETCH_TIMEOUT_SECONDS:g} s"):
        await cache.get("KEY")
    assert now() - started == pytest.approx(FETCH_TIMEOUT_SECONDS)


@virtual_time
async def test_cache_frozen_store_delays_only_first_requests() -> None:
    store = Gated({"KEY": "v"})
    store.open.clear()
    cache, clock = cached(store)
    started = now()
    outcomes = await asyncio.gather(*(cache.get("KEY") for _ in range(50)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {SecretStoreUnavailable}
    assert now() - started == pytest.approx(FETCH_TIMEOUT_SECONDS), "all of them waited for the one look-up"
    clock.advance(PROBE_SECONDS)
    for _ in range(50):
        with pytest.raises(SecretStoreUnavailable):
            await at_once(cache)
    await cache.aclose()


async def test_cache_reports_unexpected_store_error_as_unavailable(task_failures: list[str]) -> None:
    store = FakeSecrets({"KEY": "v"})
    store.error = ValueError("sk-inside-a-message")
    cache, _ = cached(store)
    with pytest.raises(SecretStoreUnavailable, match=r"'fake' failed \(ValueError\)$"):
        await cache.get("KEY")
    assert task_failures == []


async def test_cache_cancelled_request_keeps_look_up_running() -> None:
    store = Gated({"KEY": "v"})
    store.open.clear()
    cache, _ = cached(store)
    first, second = asyncio.create_task(cache.get("KEY")), asyncio.create_task(cache.get("KEY"))
    await settle()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    store.open.set()
    assert (await asyncio.wait_for(second, 300)).value == "v"
    assert store.asked == ["KEY"]


class TestRefresh:
    """The method that is called after a provider refused the value."""

    async def test_refresh_returns_the_current_value(self) -> None:
        store = FakeSecrets({"KEY": "old"})
        cache, _ = cached(store)
        await cache.get("KEY")
        store.values["KEY"] = "new"
        assert (await cache.refresh("KEY", "old")).value == "new"
        assert await at_once(cache) == "new"

    async def test_refresh_of_a_replaced_value_causes_no_look_up(self) -> None:
        store = FakeSecrets({"KEY": "new"})
        cache, _ = cached(store)
        await cache.get("KEY")
        assert (await cache.refresh("KEY", "old")).value == "new"
        assert store.asked == ["KEY"]

    async def test_refresh_concurrent_calls_share_one_look_up(self) -> None:
        store = FakeSecrets({"KEY": "old"})
        cache, _ = cached(store)
        await cache.get("KEY")
        store.values["KEY"] = "new"
        secrets = await asyncio.gather(*(cache.refresh("KEY", "old") for _ in range(50)))
        assert {secret.value for secret in secrets} == {"new"}
        assert store.asked == ["KEY", "KEY"]

    async def test_cache_repeated_refusals_cause_one_look_up(self) -> None:
        store = FakeSecrets({"KEY": "v"})
        cache, clock = cached(store)
        await cache.get("KEY")
        store.asked.clear()
        for _ in range(100):  # ten seconds
            assert (await cache.refresh("KEY", "v")).value == "v"
            clock.advance(0.1)
        assert 10 / REFETCH_SECONDS - 1 <= len(store.asked) <= 10 / REFETCH_SECONDS + 1

    async def test_refresh_ignores_a_look_up_that_began_earlier(self) -> None:
        class Slow(Gated):
            async def get(self, name: str) -> Secret:
                secret = Secret(name, self.values[name])  # the store's response, still on its way
                self.asked.append(name)
                await self.open.wait()
                return secret

        store = Slow({"KEY": "old"})
        cache, clock = cached(store)
        await cache.get("KEY")
        store.open.clear()
        clock.advance(DUE)
        cache.refresh_due()
        await settle()
        store.values["KEY"] = "new"
        refreshing = asyncio.create_task(cache.refresh("KEY", "old"))
        await settle()
        store.open.set()
        assert (await asyncio.wait_for(refreshing, 300)).value == "new"

    async def test_refresh_returns_last_value_while_store_is_down(self) -> None:
        store = FakeSecrets({"KEY": "v"})
        cache, _ = cached(store)
        await cache.get("KEY")
        store.error = SecretStoreUnavailable("down")
        assert (await cache.refresh("KEY", "v")).value == "v"

    async def test_refresh_of_an_unknown_name_is_not_found(self) -> None:
        cache, _ = cached(FakeSecrets({"KEY": "v"}))
        assert (await cache.refresh("KEY", "other")).value == "v"
        with pytest.raises(SecretNotFound):
            await cache.refresh("NONE", "other")


async def test_cache_close_ends_look_ups_and_closes_the_store() -> None:
    store = Gated({})
    store.open.clear()
    cache, _ = cached(store)
    asking = asyncio.create_task(cache.get("KEY"))
    await settle()
    await cache.aclose()
    assert store.closed
    assert cache._entries["KEY"].fetching is None
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.done()
    assert cache.scheme == "fake"


async def test_cache_repr_contains_no_secret() -> None:
    cache, _ = cached(FakeSecrets({"KEY": "sk-123"}))
    await cache.get("KEY")
    assert "sk-123" not in repr(cache) + repr(cache._entries) + str(vars(cache))
