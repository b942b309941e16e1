"""Cancel work for a client as soon as the client disconnects.

ASGI servers do not cancel a handler whose client has disconnected. Without this module a provider would generate, and
charge for, a response that no client receives.

ASGI reports a disconnect as a message of `receive`. Waiting for it needs one more task per request, which costs 3 % of
a request's CPU. The gateway's own server therefore puts a DisconnectSignal into the scope and calls it
from its protocol. With another server, as in tests, ReceiveSignal waits in `receive`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.types import Receive, Scope

T = TypeVar("T")

_EXTENSION = "flowbiz.disconnect"
"""The signal's name in `scope["extensions"]`, which ASGI provides for features of a server."""


class ClientDisconnected(Exception):
    """The client disconnected before its response was complete. No response can be sent any more."""


class DisconnectSignal:
    """Calls its callbacks once, when the client's connection is lost."""

    __slots__ = ("_callbacks", "_resume_reading", "is_set")

    def __init__(self, resume_reading: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            resume_reading: makes the server read from the socket. A server pauses reading during a large body or
                while requests are pipelined, and a socket that is not read does not report its end.
        """
        self.is_set = False
        self._resume_reading = resume_reading
        self._callbacks: list[Callable[[], None]] = []

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the connection is lost. Check `is_set` first: an earlier loss is not repeated."""
        self._callbacks.append(callback)
        self._resume_reading()

    def remove_callback(self, callback: Callable[[], None]) -> None:
        """Do not call `callback`; does nothing if it was called or never added."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def set(self) -> None:
        """Call all callbacks: the connection is lost."""
        self.is_set = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def extension(self) -> dict[str, object]:
        """Return the `extensions` of a scope with this signal."""
        return {_EXTENSION: self}


class ReceiveSignal(DisconnectSignal):
    """Waits in ASGI's `receive` while a callback is registered. Use it only after the body has been read: then the next
    message is the disconnect."""

    __slots__ = ("_receive", "_watcher")

    def __init__(self, receive: Receive) -> None:
        super().__init__()
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None

    def add_callback(self, callback: Callable[[], None]) -> None:
        """See DisconnectSignal.add_callback."""
        super().add_callback(callback)
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())

    def remove_callback(self, callback: Callable[[], None]) -> None:
        """See DisconnectSignal.remove_callback."""
        super().remove_callback(callback)
        if self._watcher is not None and not self._callbacks:
            self._watcher.cancel()
            self._watcher = None

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.set()


def disconnect_signal(scope: Scope, receive: Receive) -> DisconnectSignal:
    """Return the signal of the server; a ReceiveSignal for a server without one."""
    signal = scope.get("extensions", {}).get(_EXTENSION)
    return signal if isinstance(signal, DisconnectSignal) else ReceiveSignal(receive)


async def cancel_on_disconnect(client: DisconnectSignal, work: Awaitable[T]) -> T:
    """Return the result of `work`, which is cancelled as soon as the client disconnects.

    Raises:
        ClientDisconnected: the client disconnected first.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    if client.is_set:
        _discard(work)
        raise ClientDisconnected
    disconnected = False

    def cancel() -> None:
        nonlocal disconnected
        disconnected = True
        task.cancel()

    client.add_callback(cancel)
    try:
        return await work
    except asyncio.CancelledError:
        # The task may be cancelled for another reason too, such as a shutdown. That cancellation is passed on.
        if not disconnected or task.uncancel() > 0:
            raise
        raise ClientDisconnected from None
    finally:
        client.remove_callback(cancel)


def _discard(work: Awaitable[object]) -> None:
    """Close a coroutine that was never awaited, without the warning about it."""
    close = getattr(work, "close", None)
    if close is not None:
        close()
