"""Work for a client that may leave: when it does, the work is cancelled at once.

ASGI servers do not cancel a handler whose client is gone; left alone, a provider would go on generating for
nobody. Once the body is read, the next ASGI message can only be `http.disconnect`.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Receive

T = TypeVar("T")


class ClientDisconnected(Exception):
    """The client left before its answer was complete; nobody is there to be told."""


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled as soon as the client leaves.

    Raises:
        ClientDisconnected: the client left first.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        # Cancelled for another reason, such as a shutdown: not ours to swallow.
        if not left or task.uncancel() > 0:
            raise
        raise ClientDisconnected from None
    finally:
        watcher.cancel()
