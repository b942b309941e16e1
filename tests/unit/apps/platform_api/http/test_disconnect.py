"""Work is cancelled when its client disconnects, however the server reports it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message

from apps.platform_api.http.disconnect import (
    ClientDisconnected,
    DisconnectSignal,
    ReceiveSignal,
    cancel_on_disconnect,
    disconnect_signal,
)


class Client:
    """A client of a server without the extension: `receive` waits until it disconnects."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.waiting = 0
        self.signal = ReceiveSignal(self.receive)

    async def receive(self) -> Message:
        self.waiting += 1
        try:
            await self.gone.wait()
        finally:
            self.waiting -= 1
        return {"type": "http.disconnect"}


class Work:
    """Runs until `go`; notes whether it was cancelled."""

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


async def test_result_is_returned_and_watcher_ends(client: Client) -> None:
    async def quick() -> str:
        await asyncio.sleep(0)
        return "done"

    assert await cancel_on_disconnect(client.signal, quick()) == "done"
    await asyncio.sleep(0)
    assert client.waiting == 0


async def test_error_of_work_is_raised(client: Client) -> None:
    async def failing() -> str:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await cancel_on_disconnect(client.signal, failing())


async def test_disconnect_cancels_work(client: Client) -> None:
    work = Work()
    task = asyncio.create_task(cancel_on_disconnect(client.signal, work.run()))
    await work.started.wait()
    client.gone.set()
    with pytest.raises(ClientDisconnected):
        await asyncio.wait_for(task, 300)
    assert work.cancelled


async def test_disconnect_before_work_is_reported(client: Client) -> None:
    client.gone.set()
    work = Work()
    with pytest.raises(ClientDisconnected):
        await asyncio.wait_for(cancel_on_disconnect(client.signal, work.run()), 300)


async def test_watcher_ignores_messages_other_than_disconnect() -> None:
    messages = [{"type": "http.request", "body": b"", "more_body": False}] * 3
    waiting = asyncio.Event()

    async def receive() -> Message:
        if messages:
            return messages.pop()
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    work = Work()
    task = asyncio.create_task(cancel_on_disconnect(ReceiveSignal(receive), work.run()))
    await waiting.wait()
    assert not work.cancelled
    work.go.set()
    assert await task == "done"


async def test_cancellation_from_outside_is_passed_on(client: Client) -> None:
    work = Work()
    task = asyncio.create_task(cancel_on_disconnect(client.signal, work.run()))
    await work.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.cancelled
    assert task.cancelled()
    await asyncio.sleep(0)
    assert client.waiting == 0


@pytest.mark.parametrize("order", ["client first", "shutdown first"])
async def test_shutdown_wins_over_disconnect_at_once(client: Client, order: str) -> None:
    """If the client disconnects and the task is cancelled from outside, the cancellation is passed on."""
    work = Work()
    task = asyncio.create_task(cancel_on_disconnect(client.signal, work.run()))
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
async def test_disconnect_at_end_of_work_leaves_no_cancellation(client: Client, ticks: int) -> None:
    """Either outcome is right; a cancellation that hits the task's next step is not."""
    work = Work()

    async def request() -> str:
        try:
            outcome = await cancel_on_disconnect(client.signal, work.run())
        except ClientDisconnected:
            outcome = "disconnected"
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
    assert await asyncio.wait_for(task, 300) in ("done", "disconnected")


async def test_timeout_inside_work_is_raised(client: Client) -> None:
    async def slow() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await cancel_on_disconnect(client.signal, slow())


async def test_timeout_around_work_is_raised(client: Client) -> None:
    async def wait(work: Awaitable[str]) -> str:
        async with asyncio.timeout(0.01):
            return await cancel_on_disconnect(client.signal, work)

    with pytest.raises(TimeoutError):
        await wait(Work().run())


async def test_watcher_waits_while_one_callback_is_left(client: Client) -> None:
    called: list[str] = []

    def first() -> None:
        called.append("first")

    def second() -> None:
        called.append("second")

    client.signal.add_callback(first)
    client.signal.add_callback(second)
    await asyncio.sleep(0)
    assert client.waiting == 1
    client.signal.remove_callback(first)
    client.gone.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert called == ["second"]


# --- the server's own signal


async def test_signal_cancels_work() -> None:
    signal, work = DisconnectSignal(), Work()
    task = asyncio.create_task(cancel_on_disconnect(signal, work.run()))
    await work.started.wait()
    signal.set()
    with pytest.raises(ClientDisconnected):
        await asyncio.wait_for(task, 300)
    assert work.cancelled


async def test_signal_in_the_iteration_of_the_result_disconnects() -> None:
    """Either outcome would be right; an unexplained cancellation would not."""
    signal, work = DisconnectSignal(), Work()
    task = asyncio.create_task(cancel_on_disconnect(signal, work.run()))
    await work.started.wait()
    work.go.set()
    signal.set()
    with pytest.raises(ClientDisconnected):
        await asyncio.wait_for(task, 300)


async def test_work_is_not_started_after_signal() -> None:
    signal, work = DisconnectSignal(), Work()
    signal.set()
    with pytest.raises(ClientDisconnected):
        await cancel_on_disconnect(signal, work.run())
    assert not work.started.is_set()


async def test_signal_after_result_cancels_nothing() -> None:
    signal, work = DisconnectSignal(), Work()
    work.go.set()
    assert await cancel_on_disconnect(signal, work.run()) == "done"
    signal.set()
    await asyncio.sleep(0)  # a cancellation would arrive here


async def test_cancellation_before_signal_is_passed_on() -> None:
    signal, work = DisconnectSignal(), Work()
    task = asyncio.create_task(cancel_on_disconnect(signal, work.run()))
    await work.started.wait()
    task.cancel()
    signal.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_signal_cancels_second_work_after_first_ends() -> None:
    signal, first, second = DisconnectSignal(), Work(), Work()
    tasks = [asyncio.create_task(cancel_on_disconnect(signal, work.run())) for work in (first, second)]
    await asyncio.gather(first.started.wait(), second.started.wait())
    first.go.set()
    assert await tasks[0] == "done"
    signal.set()
    with pytest.raises(ClientDisconnected):
        await tasks[1]


async def test_scope_without_signal_waits_in_receive(client: Client) -> None:
    signal = DisconnectSignal()
    assert disconnect_signal({"type": "http", "extensions": signal.extension()}, client.receive) is signal
    for scope in ({"type": "http"}, {"type": "http", "extensions": {"flowbiz.disconnect": "x"}}):
        assert isinstance(disconnect_signal(scope, client.receive), ReceiveSignal)


def test_callback_makes_server_resume_reading() -> None:
    resumed: list[str] = []
    signal = DisconnectSignal(lambda: resumed.append("resumed"))
    assert resumed == []
    signal.add_callback(lambda: None)
    assert resumed == ["resumed"]
