"""Keys of throttled addresses are looked up together, with a bounded number of statements."""

import asyncio
import gc
from collections.abc import Sequence

import pytest

from platform_app.auth import throttled_lookups
from platform_app.auth.keys.records import StoredKey
from platform_app.auth.throttled_lookups import LookupQueueFull, ThrottledLookups
from tests.support.fakes.core import key_record


class Keys:
    """A key store that notes its statements, and waits for `gate`."""

    def __init__(self) -> None:
        self.statements: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def lookup_many(self, key_ids: Sequence[str]) -> dict[str, StoredKey]:
        self.statements.append(list(key_ids))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return {key_id: StoredKey(key_record(key_id), ()) for key_id in key_ids if key_id.startswith("good")}


class Pauses:
    """Sleeps until the test says so, and notes for how long it was asked to."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.over.wait()


class World:
    def __init__(self, timeout: float = 300.0) -> None:
        self.keys, self.pauses = Keys(), Pauses()
        self.lookups = ThrottledLookups(self.keys, timeout, 0.1, self.pauses)

    def ask(self, *key_ids: str) -> list[asyncio.Task[StoredKey | None]]:
        return [asyncio.create_task(self.lookups.lookup(key_id)) for key_id in key_ids]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_first_key_does_not_wait() -> None:
    world = World()
    found = await world.lookups.lookup("good1")
    assert found is not None
    assert found.record.key_id == "good1"
    assert world.keys.statements == [["good1"]]


async def test_keys_within_the_interval_share_one_statement() -> None:
    world = World()
    assert await world.lookups.lookup("bad1") is None
    tasks = world.ask("bad2", "good1", "bad2", "bad3")
    await settle()
    assert world.keys.statements == [["bad1"]], "the interval is not over"
    world.pauses.over.set()
    found = await asyncio.gather(*tasks)
    assert [key and key.record.key_id for key in found] == [None, "good1", None, None]
    assert world.keys.statements == [["bad1"], ["bad2", "good1", "bad3"]]
    await settle()
    assert world.pauses.asked == [0.1, 0.1]


async def test_default_interval_bounds_statements_and_waits() -> None:
    """At most ten statements a second, and a valid key waits for a tenth of a second at most."""
    keys, pauses = Keys(), Pauses()
    await ThrottledLookups(keys, 300.0, sleep=pauses).lookup("bad1")
    await settle()
    assert pauses.asked == [0.1]
    pauses.over.set()
    await settle()


async def test_too_many_waiting_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform_app.auth.throttled_lookups.MAX_WAITING", 3)
    world = World()
    await world.lookups.lookup("bad1")
    tasks = world.ask("bad2", "bad3", "bad4")
    await settle()
    with pytest.raises(LookupQueueFull):
        await world.lookups.lookup("good1")
    world.pauses.over.set()
    assert await asyncio.gather(*tasks) == [None] * 3
    assert await world.lookups.lookup("good1") is not None


async def test_failure_reaches_each_waiting_request_and_no_later_one() -> None:
    world = World()
    world.pauses.over.set()
    world.keys.error = OSError("refused")
    failed = await asyncio.gather(*world.ask("good1", "good2"), return_exceptions=True)
    assert [type(error) for error in failed] == [OSError, OSError]
    world.keys.error = None
    assert await world.lookups.lookup("good1") is not None


async def test_frozen_statement_ends_by_timeout() -> None:
    """A statement that never ends does not stop later ones."""
    world = World(timeout=0.01)
    world.pauses.over.set()
    world.keys.gate.clear()
    with pytest.raises(TimeoutError):
        await world.lookups.lookup("good1")
    world.keys.gate.set()
    assert await world.lookups.lookup("good1") is not None


@pytest.mark.parametrize("ending", ["fails", "is cancelled"])
async def test_statement_that_ends_after_its_timeout_reports_no_error(
    task_failures: list[str], monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """The statement continues after its timeout, when no request waits for it any more."""
    statements: list[asyncio.Future[object]] = []

    async def never_in_time(task: "asyncio.Future[object]", seconds: float) -> bool:
        statements.append(task)
        await asyncio.sleep(0)
        return False

    monkeypatch.setattr(throttled_lookups, "finished_within", never_in_time)
    world = World()
    world.pauses.over.set()
    world.keys.gate.clear()
    world.keys.error = OSError("refused")
    with pytest.raises(TimeoutError):
        await world.lookups.lookup("good1")
    if ending == "fails":
        world.keys.gate.set()
    else:
        statements[0].cancel()
    await asyncio.wait({statements.pop()})
    await settle()
    gc.collect()
    assert task_failures == []


async def test_request_that_leaves_does_not_end_the_lookup() -> None:
    world = World()
    world.keys.gate.clear()
    first, second = world.ask("good1", "good1")
    await settle()
    first.cancel()
    world.keys.gate.set()
    assert await second is not None


async def test_failure_after_the_request_left_reports_no_error(task_failures: list[str]) -> None:
    world = World()
    world.pauses.over.set()
    world.keys.gate.clear()
    world.keys.error = OSError("refused")
    [request] = world.ask("good1")
    await settle()
    request.cancel()
    await settle()
    world.keys.gate.set()
    await settle()
    world.keys.error = None  # its traceback refers to the lookup, and so does that of the request
    del request
    gc.collect()
    assert task_failures == []
