"""Work for a client that may leave."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message

from apps.platform_api.http.disconnect import ClientDisconnected, cancel_on_disconnect
from apps.platform_api.http.disconnect_signal import DisconnectSignal, departure_of


class Client:
    """The other end: sends nothing until it leaves."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.waiting = 0

    async def receive(self) -> Message:
        self.waiting += 1
        try:
            await self.gone.wait()
        finally:
            self.waiting -= 1
        return {"type": "http.disconnect"}


class Work:
    """Runs until told; notes how it ended."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = False

    async def run(self) -> str:
        self.started.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "done"


@pytest.fixture
def client() -> Client:
    return Client()


async def test_the_result_comes_through_and_nobody_is_left_waiting(client: Client) -> None:
    async def quick() -> str:
        await asyncio.sleep(0)
        return "done"

    assert await cancel_on_disconnect(client.receive, quick()) == "done"
    await asyncio.sleep(0)
    assert client.waiting == 0


async def test_an_error_comes_through(client: Client) -> None:
    async def failing() -> str:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await cancel_on_disconnect(client.receive, failing())


async def test_a_client_that_leaves_cancels_the_work(client: Client) -> None:
    work = Work()
    task = asyncio.create_task(cancel_on_disconnect(client.receive, work.run()))
    await work.started.wait()
    client.gone.set()
    with pytest.raises(ClientDisconnected):
        await asyncio.wait_for(task, 300)
    assert work.cancelled


async def test_a_client_that_is_gone_already(client: Client) -> None:
    client.gone.set()
    work = Work()
    with pytest.raises(ClientDisconnected):
        await asyncio.wait_for(cancel_on_disconnect(client.receive, work.run()), 1)


async def test_other_messages_are_no_goodbye() -> None:
    messages = [{"type": "http.request", "body": b"", "more_body": False}] * 3

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    work = Work()
    task = asyncio.create_task(cancel_on_disconnect(receive, work.run()))
    await asyncio.sleep(0.01)
    assert not work.cancelled
    work.go.set()
    assert await task == "done"


async def test_a_cancellation_from_outside_is_not_swallowed(client: Client) -> None:
    work = Work()
    task = asyncio.create_task(cancel_on_disconnect(client.receive, work.run()))
    await work.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.cancelled
    assert task.cancelled()
    assert client.waiting == 0


@pytest.mark.parametrize("order", ["client first", "shutdown first"])
async def test_of_both_at_once_the_cancellation_from_outside_wins(client: Client, order: str) -> None:
    work = Work()
    task = asyncio.create_task(cancel_on_disconnect(client.receive, work.run()))
    await work.started.wait()
    if order == "client first":
        client.gone.set()
        await asyncio.sleep(0)  # the watcher runs, and cancels
        task.cancel()
    else:
        task.cancel()
        client.gone.set()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("ticks", range(6))
async def test_a_client_that_leaves_as_the_work_ends_is_one_or_the_other(client: Client, ticks: int) -> None:
    """And the task is not left with a cancellation that hits the next thing it does."""
    work = Work()

    async def request() -> str:
        try:
            outcome = await cancel_on_disconnect(client.receive, work.run())
        except ClientDisconnected:
            outcome = "left"
        for _ in range(5):
            await asyncio.sleep(0)
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0
        return outcome

    task = asyncio.create_task(request())
    await work.started.wait()
    events: list[Callable[[], None]] = [work.go.set, client.gone.set]
    if ticks % 2:
        events.reverse()
    events[0]()
    for _ in range(ticks // 2):
        await asyncio.sleep(0)
    events[1]()
    assert await asyncio.wait_for(task, 300) in ("done", "left")


async def test_a_timeout_inside_the_work_stays_a_timeout(client: Client) -> None:
    async def slow() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await cancel_on_disconnect(client.receive, slow())


async def test_a_timeout_around_it_works(client: Client) -> None:
    async def wait(work: Awaitable[str]) -> str:
        async with asyncio.timeout(0.01):
            return await cancel_on_disconnect(client.receive, work)

    with pytest.raises(TimeoutError):
        await wait(Work().run())


# --- where the server tells


class TellingClient:
    """`receive` of a server that tells when the client left; nobody waits in it."""

    def __init__(self) -> None:
        self.departure = DisconnectSignal()

    async def __call__(self) -> Message:
        raise AssertionError("nobody waits here")


async def test_a_departure_cancels_the_work() -> None:
    client, work = TellingClient(), Work()
    task = asyncio.create_task(cancel_on_disconnect(client, work.run()))
    await work.started.wait()
    client.departure.happen()
    with pytest.raises(ClientDisconnected):
        await asyncio.wait_for(task, 300)
    assert work.cancelled


async def test_a_departure_in_the_turn_of_the_result() -> None:
    """Either is true then; what must not be is a cancellation that nobody explains."""
    client, work = TellingClient(), Work()
    task = asyncio.create_task(cancel_on_disconnect(client, work.run()))
    await work.started.wait()
    work.go.set()
    client.departure.happen()
    with pytest.raises(ClientDisconnected):
        await asyncio.wait_for(task, 300)


async def test_after_a_departure_nothing_is_begun() -> None:
    client, work = TellingClient(), Work()
    client.departure.happen()
    with pytest.raises(ClientDisconnected):
        await cancel_on_disconnect(client, work.run())
    assert not work.started.is_set()


async def test_a_departure_after_the_result_is_nobodys() -> None:
    client, work = TellingClient(), Work()
    work.go.set()
    assert await cancel_on_disconnect(client, work.run()) == "done"
    client.departure.happen()
    await asyncio.sleep(0)  # a cancellation would come here


async def test_a_cancellation_before_a_departure_stays_one() -> None:
    client, work = TellingClient(), Work()
    task = asyncio.create_task(cancel_on_disconnect(client, work.run()))
    await work.started.wait()
    task.cancel()
    client.departure.happen()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_of_two_on_a_connection_ends_and_the_other_hears() -> None:
    client, first, second = TellingClient(), Work(), Work()
    tasks = [asyncio.create_task(cancel_on_disconnect(client, work.run())) for work in (first, second)]
    await asyncio.gather(first.started.wait(), second.started.wait())
    first.go.set()
    assert await tasks[0] == "done"
    client.departure.happen()
    with pytest.raises(ClientDisconnected):
        await tasks[1]


def test_a_scope_without_one() -> None:
    told = DisconnectSignal()
    assert departure_of({"type": "http"}) is None
    assert departure_of({"type": "http", "extensions": {"flowbiz.departure": "x"}}) is None
    assert departure_of({"type": "http", "extensions": told.extension()}) is told


def test_whoever_is_to_be_told_makes_the_server_read_on() -> None:
    read_on: list[str] = []
    departure = DisconnectSignal(lambda: read_on.append("on"))
    assert read_on == []
    departure.tell(lambda: None)
    assert read_on == ["on"]
