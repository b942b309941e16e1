"""A request's body, bounded in size and time, and what to do with the rest of one that is refused."""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from apps.platform_api.departure import departure_of
from platform_app.errors import InvalidRequest, PayloadTooLarge, PlatformError

DRAIN_SECONDS = 2.0
DRAIN_BYTES = 64 * 1024 * 1024
"""What is read and thrown away after a refusal, so that the answer arrives: closing a connection with unread data
resets it, and the client never sees why."""


class BodyRefused(Exception):
    """The body is too large or too slow. Not a PlatformError: only the outermost layer answers it, since it must also
    see to the rest of the body."""

    def __init__(self, error: PlatformError) -> None:
        super().__init__(error.message)
        self.error = error


class CappedBody:
    """ASGI's `receive` for the app: gives the body on, or raises BodyRefused."""

    def __init__(self, scope: Scope, receive: Receive, max_bytes: int, max_seconds: float) -> None:
        self._receive = receive
        self.departure = departure_of(scope)
        """Where the server tells that the client left; None where it does not."""
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._ends_at = asyncio.get_running_loop().time() + max_seconds
        self._received = 0
        self._complete = False
        self._whole: bytes | None = None
        self._declared = _declared_length(scope)

    def check_declared(self) -> None:
        """Raise BodyRefused for a body that says itself that it is too large."""
        if self._declared is not None and self._declared > self._max_bytes:
            raise self._too_large()

    async def __call__(self) -> Message:
        """The next message, as ASGI's receive."""
        if self._complete:  # the only message left is the disconnect, which may take its time
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._ends_at):
                message = await self._receive()
        except TimeoutError:
            raise BodyRefused(
                InvalidRequest(
                    f"The body did not arrive within {self._max_seconds:g} s. Send it faster or make it smaller."
                )
            ) from None
        self._take(message)
        if self._received > self._max_bytes:
            raise self._too_large()
        return message

    async def read(self) -> bytes:
        """The whole body, the same however often it is asked for; raises BodyRefused, or ClientDisconnect."""
        if self._whole is None:
            parts = []
            while not self._complete:
                message = await self()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                parts.append(message.get("body", b""))
            self._whole = parts[0] if len(parts) == 1 else b"".join(parts)
        return self._whole

    async def drain(self) -> None:
        """Read and forget the rest, within bounds; returns at once where there is none."""
        start = self._received
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._complete and self._received - start < DRAIN_BYTES:
                    self._take(await self._receive())
        except TimeoutError:
            pass

    def _take(self, message: Message) -> None:
        self._received += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)  # also for a disconnect

    def _too_large(self) -> BodyRefused:
        return BodyRefused(PayloadTooLarge(f"The body is larger than {self._max_bytes} bytes."))


def _declared_length(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None
