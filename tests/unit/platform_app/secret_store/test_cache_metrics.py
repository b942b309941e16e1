"""What the cache of a secret store logs and counts."""

import pytest
from prometheus_client import REGISTRY

from platform_app.errors import SecretNotFound, SecretStoreUnavailable
from platform_app.secret_store import cache as cache_module
from platform_app.secret_store.cache import PROBE_SECONDS
from tests.support.fakes.cached_secrets import TTL, cached, settle
from tests.support.fakes.core import FakeSecrets


def value(name: str, **labels: str) -> float:
    """Return a sample of the registry, or 0."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, object]]]:
    written: list[tuple[str, dict[str, object]]] = []

    class Log:
        def info(self, event: str, **fields: object) -> None:
            written.append((event, fields))

        warning = info

    monkeypatch.setattr(cache_module, "_log", Log())
    return written


async def test_cache_outage_logs_two_lines_and_change_one(lines: list[tuple[str, dict[str, object]]]) -> None:
    store = FakeSecrets({"KEY": "sk-old"})
    cache, clock = cached(store)
    await cache.get("KEY")
    store.error = SecretStoreUnavailable("down")
    for _ in range(5):
        clock.advance(TTL / 4)
        cache.refresh_due()
        await settle()
    assert value("platform_secrets_stale") == 1
    cache.refresh_due()
    assert value("platform_secret_age_seconds") == pytest.approx(1.25 * TTL)
    store.error, store.values["KEY"] = None, "sk-new"
    clock.advance(PROBE_SECONDS)
    cache.refresh_due()
    await settle()
    assert value("platform_secrets_stale") == 0
    assert lines == [
        (
            "secret_refresh_failed",
            {"store": "fake", "secret": "KEY", "why": "down", "last_value_serves": True},
        ),
        ("secret_refresh_recovered", {"store": "fake", "secret": "KEY"}),
        ("secret_changed", {"store": "fake", "secret": "KEY"}),
    ]
    assert "sk-" not in repr(lines)


async def test_cache_counts_look_ups_by_outcome() -> None:
    def counts() -> list[float]:
        return [
            value("platform_secret_lookups_total", store="fake", outcome=outcome)
            for outcome in ("found", "missing", "unavailable")
        ]

    before = counts()
    store = FakeSecrets({"KEY": "v"})
    cache, _ = cached(store)
    await cache.get("KEY")
    await cache.get("KEY")
    with pytest.raises(SecretNotFound):
        await cache.get("NONE")
    store.error = SecretStoreUnavailable("down")
    with pytest.raises(SecretStoreUnavailable):
        await cache.get("OTHER")
    assert [after - earlier for earlier, after in zip(before, counts(), strict=True)] == [1, 1, 1]
