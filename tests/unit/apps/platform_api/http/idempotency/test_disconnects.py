"""Work under an Idempotency-Key whose client disconnects, and clients that wait for it."""

import asyncio
from dataclasses import replace

import pytest
from starlette.responses import Response

from apps.platform_api.http.disconnect import ClientDisconnected
from platform_app.errors import (
    ProviderTimeout,
)
from tests.support.fakes.core import Count
from tests.support.fakes.memory_store import MemoryStore
from tests.support.idempotency.route import POLICY, Client, Route
from tests.support.timing.virtual_time import virtual_time


class Slow:
    """Work that runs until it is released."""

    def __init__(self, end: Response | BaseException) -> None:
        self.end = end
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.cancelled = False

    async def __call__(self) -> Response | BaseException:
        self.begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.end


async def leave(route: Route, slow: Slow, key: str = "one") -> None:
    """Ask, and leave while it is worked on."""
    slow.begun.clear()
    route.client = Client()
    asking = asyncio.create_task(route.ask(slow, key))
    await slow.begun.wait()
    route.client.gone.set()
    with pytest.raises(ClientDisconnected):
        await asking
    route.client = Client()
    await asyncio.sleep(0)


@virtual_time
async def test_repeated_request_gets_the_first_response(route: Route) -> None:
    """It waits for it, however often it leaves and asks, and the work is done once."""
    counts = {
        name: Count("platform_idempotency_total", outcome=name)
        for name in ("client_left", "waited", "replayed", "stored", "in_flight")
    }
    slow = Slow(Response(b"1"))
    await leave(route, slow)
    asking = [asyncio.create_task(route.ask(slow, "one")) for _ in range(3)]
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in asking)
    slow.may_end.set()
    assert [bytes((await task).body) for task in asking] == [b"1"] * 3
    assert route.worked == 1
    assert {name: count.grown for name, count in counts.items()} == {
        "client_left": 1, "waited": 3, "replayed": 3, "stored": 1, "in_flight": 0,
    }  # fmt: skip


@virtual_time
async def test_disconnect_of_a_waiting_client_changes_nothing(route: Route) -> None:
    slow = Slow(Response(b"1"))
    await leave(route, slow)
    asking = asyncio.create_task(route.ask(slow, "one"))
    await asyncio.sleep(0.1)
    route.client.gone.set()
    with pytest.raises(ClientDisconnected):
        await asking
    assert route.held
    slow.may_end.set()
    await asyncio.wait(route.server.tasks)
    assert len(route.kept) == 1


@virtual_time
async def test_failed_work_without_client_frees_the_key(route: Route) -> None:
    """The request that waits for the key then does the work."""
    slow = Slow(ProviderTimeout("slow"))
    await leave(route, slow)
    asking = asyncio.create_task(route.ask(Response(b"2"), "one"))
    await asyncio.sleep(0.1)
    slow.may_end.set()
    assert (await asking).body == b"2"
    assert route.worked == 2


@virtual_time
async def test_work_beyond_the_bound_ends_with_its_client(route: Route) -> None:
    """A quarter of the requests that a process takes at once."""
    slow = Slow(Response(b"1"))
    for key in ("one", "two"):
        await leave(route, slow, key)
    assert (len(route.server.tasks), slow.cancelled) == (2, False)
    await leave(route, slow, "three")
    await asyncio.sleep(0.01)
    assert (len(route.server.tasks), slow.cancelled, route.server.in_flight) == (2, True, 2)
    assert len(route.store.records) == 2
    slow.may_end.set()
    await asyncio.wait(route.server.tasks)


@virtual_time
async def test_unprotected_work_ends_with_its_client(route: Route) -> None:
    """Without a lease on the key, continued work could be done twice."""
    open_route = Route(MemoryStore(), replace(POLICY, refuse_when_unavailable=False))
    open_route.store.down = True
    slow = Slow(Response(b"1"))
    await leave(open_route, slow)
    await asyncio.sleep(0.01)
    assert slow.cancelled
    assert open_route.server.in_flight == 0


async def test_shutdown_cancels_work_and_frees_the_key(route: Route) -> None:
    slow = Slow(Response(b"1"))
    await leave(route, slow)
    await route.detached.aclose(0.01)
    assert slow.cancelled
    assert (route.store.records, route.server.tasks, route.server.in_flight) == ({}, set(), 0)
