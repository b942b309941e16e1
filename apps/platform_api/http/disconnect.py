"""Work for a client that may leave: when it does, the work is cancelled at once.

ASGI servers do not cancel a handler whose client is gone; left alone, a provider would go on generating for
nobody. Once the body is read, the next ASGI message can only be `http.disconnect`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from starlette.types import Message, Receive

from apps.platform_api.http.disconnect_signal import DisconnectSignal

T = TypeVar("T")


class _Staying:
    """A `receive` whose client never leaves, for work that has other reasons to end."""

    departure = DisconnectSignal()

    async def __call__(self) -> Message:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return] # it never ends


STAYS: Receive = _Staying()


class ClientDisconnected(Exception):
    """The client left before its answer was complete; nobody is there to be told."""


async def cancel_on_disconnect(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled as soon as the client leaves.

    A `receive` with a `departure` is not waited in: its server tells (see departure.py).

    Raises:
        ClientDisconnected: the client left first.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    left = False

    def leave() -> None:
        nonlocal left
        left = True
        task.cancel()

    departure: DisconnectSignal | None = getattr(receive, "departure", None)
    if departure is None:
        watcher = asyncio.create_task(_watch(receive, leave))
        forget: Callable[[], object] = watcher.cancel
    else:
        if departure.happened:
            _discard(work)
            raise ClientDisconnected
        departure.tell(leave)
        forget = partial(departure.forget, leave)
    try:
        return await work
    except asyncio.CancelledError:
        # Cancelled for another reason, such as a shutdown: not ours to swallow.
        if not left or task.uncancel() > 0:
            raise
        raise ClientDisconnected from None
    finally:
        forget()


async def _watch(receive: Receive, leave: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    leave()


def _discard(work: Awaitable[object]) -> None:
    """Without a warning that it was never awaited."""
    close = getattr(work, "close", None)
    if close is not None:
        close()
