"""A cached secret store on a fake store and a fake clock."""

import asyncio

from platform_app.secret_store.base import Secret
from platform_app.secret_store.cache import CachedSecretStore
from tests.support.fakes.core import FakeClock, FakeSecrets

TTL = 300.0
DUE = 0.8 * TTL


class Gated(FakeSecrets):
    """Accept every look-up; while it is closed, respond to none."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.open = asyncio.Event()
        self.open.set()

    async def get(self, name: str) -> Secret:
        self.asked.append(name)
        await self.open.wait()
        self.asked.pop()
        return await super().get(name)


def cached(store: FakeSecrets, refresh_seconds: float | None = None) -> tuple[CachedSecretStore, FakeClock]:
    """Return a cache and its clock."""
    clock = FakeClock()
    return CachedSecretStore(store, TTL, clock, refresh_seconds), clock


async def settle() -> None:
    """Let look-ups in the background end."""
    for _ in range(10):
        await asyncio.sleep(0)


async def at_once(cache: CachedSecretStore, name: str = "KEY") -> str:
    """Return the value, which must be there without waiting: after one step of the coroutine."""
    coroutine = cache.get(name)
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: str = end.value.value
        return value
    coroutine.close()
    raise AssertionError("the cache waited")
