"""Look up the keys of throttled addresses together, at a fixed rate.

An address with too many invalid keys may also have clients whose keys are valid: an office, a cluster's egress, a proxy
that hides its clients. Their keys are looked up too, so that they are never refused because of other clients. All
unknown keys that arrive meanwhile wait for one statement, and a process sends at most one statement in `interval`
seconds. So invented keys cause a bounded load of the database, whatever their number.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from platform_app.auth.keys.records import StoredKey
from platform_app.observability.event_loop.own_stalls import finished_within

INTERVAL_SECONDS = 0.1
MAX_WAITING = 1_000
"""Keys of one statement. More keys than these within an interval are refused without a lookup."""


class LookupQueueFull(Exception):
    """Too many keys wait to be looked up."""


class ManyKeysLookup(Protocol):
    """Finds several stored keys; see KeyStore. Raises DATABASE_ERRORS."""

    async def lookup_many(self, key_ids: Sequence[str]) -> Mapping[str, StoredKey]:
        """Return the keys that exist, by their ids."""
        ...


class ThrottledLookups:
    """Looks keys up in batches. The first key does not wait; those that follow within the interval do."""

    def __init__(
        self,
        keys: ManyKeysLookup,
        timeout: float,
        interval: float = INTERVAL_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._keys = keys
        self._timeout = timeout
        self._interval = interval
        self._sleep = sleep
        self._waiting: dict[str, asyncio.Future[StoredKey | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def lookup(self, key_id: str) -> StoredKey | None:
        """Return the key and its secrets, or None.

        Raises:
            LookupQueueFull: too many keys wait.
            DATABASE_ERRORS: the statement failed, or took longer than the timeout.
        """
        future = self._waiting.get(key_id)
        if future is None:
            if len(self._waiting) >= MAX_WAITING:
                raise LookupQueueFull
            future = self._waiting[key_id] = asyncio.get_running_loop().create_future()
            if self._task is None:
                self._task = asyncio.create_task(self._run())
        return await asyncio.shield(future)

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                await self._look_up(batch)
                await self._sleep(self._interval)
        finally:
            self._task = None

    async def _look_up(self, batch: Mapping[str, asyncio.Future[StoredKey | None]]) -> None:
        task = asyncio.ensure_future(self._keys.lookup_many(list(batch)))
        try:
            if not await finished_within(task, self._timeout):
                # The statement is left to end by itself: to cancel it waits for a server that may be frozen.
                task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
                raise TimeoutError
            found = task.result()
        except Exception as error:  # noqa: BLE001 - each waiting request gets the error
            for future in batch.values():
                future.set_exception(error)
                future.exception()  # the request may be gone
        else:
            for key_id, future in batch.items():
                future.set_result(found.get(key_id))
