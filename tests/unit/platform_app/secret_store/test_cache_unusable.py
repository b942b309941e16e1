"""A value that cannot be used does not replace the one in use."""

import pytest
from prometheus_client import REGISTRY

from platform_app.errors import SecretNotFound
from platform_app.secret_store import cache as cache_module
from platform_app.secret_store.cache import PROBE_SECONDS, CachedSecretStore
from platform_app.secret_store.usable import credential_problem
from tests.support.fakes.cached_secrets import TTL, at_once, settle
from tests.support.fakes.core import FakeClock, FakeSecrets


class World:
    """A cache whose value is looked up every second."""

    def __init__(self, value: str) -> None:
        self.store = FakeSecrets({"KEY": value})
        self.clock = FakeClock()
        self.cache = CachedSecretStore(
            self.store, TTL, self.clock, 1.0, problem_of=lambda _, value: credential_problem(value)
        )

    async def write(self, value: str | None) -> None:
        """Change the stored value, and let the cache see it."""
        self.store.values = {} if value is None else {"KEY": value}
        self.clock.advance(PROBE_SECONDS)
        self.cache.refresh_due()
        await settle()


Lines = list[dict[str, object]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    written: Lines = []

    class Log:
        def info(self, event: str, **fields: object) -> None:
            written.append({"event": event, **fields})

        warning = info

    monkeypatch.setattr(cache_module, "_log", Log())
    return written


def stale() -> float | None:
    return REGISTRY.get_sample_value("platform_secrets_stale")


@pytest.mark.parametrize("unusable", ["sk-new\nsecond", "\ufeffsk-new", "'sk-new'", "sk-néw", "Bearer sk-new"])
async def test_unusable_value_does_not_replace_a_good_one(lines: Lines, unusable: str) -> None:
    world = World("sk-old")
    await world.cache.get("KEY")
    for _ in range(3):
        await world.write(unusable)
        assert await at_once(world.cache) == "sk-old"
        assert stale() == 1
    [line] = lines
    assert (line["event"], line["last_value_serves"]) == ("secret_refresh_failed", True)
    assert "sk-" not in str(line["why"])
    await world.write("sk-new")
    assert await at_once(world.cache) == "sk-new"
    assert stale() == 0


async def test_good_value_outlives_an_unusable_one() -> None:
    """Nothing is gained by refusing every request while the operator corrects a file."""
    world = World("sk-old")
    await world.cache.get("KEY")
    for _ in range(5):
        world.clock.advance(TTL)
        await world.write("two\nlines")
    assert await at_once(world.cache) == "sk-old"


async def test_unusable_first_value_is_an_error_that_says_why() -> None:
    world = World("two\nlines")
    with pytest.raises(SecretNotFound, match="has 2 lines"):
        await world.cache.get("KEY")


async def test_missing_value_after_an_unusable_one_is_dropped_late() -> None:
    """Two look-ups in a row without a value drop it, as ever; the unusable one counts as none of them."""
    world = World("sk-old")
    await world.cache.get("KEY")
    await world.write("two\nlines")
    await world.write(None)
    assert await at_once(world.cache) == "sk-old"
    await world.write(None)
    with pytest.raises(SecretNotFound):
        await world.cache.get("KEY")


async def test_each_reason_is_logged_once(lines: Lines) -> None:
    world = World("sk-old")
    await world.cache.get("KEY")
    for value in ("two\nlines", "two\nlines", "in 'the middle'", "two\nlines"):
        await world.write(value)
    assert len(lines) == 3
