"""A request's body, bounded in size and time, and by the bytes that its key and the process hold in memory."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from apps.platform_api.http.body.arrived import receive_arrived_of
from apps.platform_api.http.body.encoding import of_another_form
from apps.platform_api.http.body.json_text import MAX_VALUES, UNCOUNTED_BYTES, TextFacts, too_many_values
from apps.platform_api.server.refusal import Reason, RequestRefusedError
from platform_app.errors import (
    HeadersTooLarge,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    PlatformError,
    RateLimited,
)
from platform_app.observability import metrics
from platform_app.observability.event_loop.turns import LARGE_BYTES, new_ticket, turn_for

_RETRY_SECONDS = 1.0
GRACE_SECONDS = 5.0
"""The minimum rate applies after this time."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Bounds on one body."""

    max_bytes: int
    max_seconds: float
    """From the first read to the last byte."""
    max_values: int = MAX_VALUES
    """JSON values in a body."""
    min_rate: int = 240
    """Minimum bytes per second, after GRACE_SECONDS."""


class BodyBudget:
    """Bounds the bytes of request bodies that the process holds in memory, in total and per key.

    A key's budget counts declared bytes, so that a request beyond it is refused before its body is read. The process's
    budget counts bytes that have arrived, so that a declaration alone uses none of it.
    """

    def __init__(self, process_bytes: int, key_bytes: int) -> None:
        self._process_bytes = process_bytes
        self._key_bytes = key_bytes
        self._by_key: dict[str, int] = {}
        self.held = 0

    def reserve(self, key_id: str, size: int) -> None:
        """Reserve bytes for a request of the key.

        Raises:
            RateLimited: the key's requests would hold too many bytes.
        """
        reserved = self._by_key.get(key_id, 0) + size
        if reserved > self._key_bytes:
            metrics.HTTP_REFUSED.labels("bodies_in_flight").inc()
            raise RateLimited(
                f"The running requests of your key hold bodies of more than {self._key_bytes} bytes together. Wait for "
                "some of them to end, or send smaller ones.",
                retry_after=_RETRY_SECONDS,
            )
        if reserved:
            self._by_key[key_id] = reserved

    def hold(self, size: int) -> None:
        """Count bytes that have arrived.

        Raises:
            Overloaded: the process would hold too many bytes.
        """
        if self.held + size > self._process_bytes:
            metrics.HTTP_REFUSED.labels("bodies_in_flight").inc()
            raise Overloaded(
                "This instance holds too many bytes of request bodies. Try again.", retry_after=_RETRY_SECONDS
            )
        self.held += size

    def give_back(self, key_id: str, reserved: int, held: int) -> None:
        """Release the bytes of a request that has ended."""
        self.held -= held
        left = self._by_key.get(key_id, 0) - reserved
        if left > 0:
            self._by_key[key_id] = left
        else:
            self._by_key.pop(key_id, None)


class BoundedRequestBody:
    """ASGI's `receive` for the application, within the bounds. Raises a PlatformError where one is reached."""

    def __init__(self, scope: Scope, receive: Receive, limits: BodyLimits, budget: BodyBudget) -> None:
        self._receive = receive
        self._receive_arrived = receive_arrived_of(scope)
        self.facts: TextFacts | None = None
        """The counts of a large body, after it was read."""
        self._limits = limits
        self._budget = budget
        self._begun_at: float | None = None
        self._received = 0
        self._complete = False
        self._whole: bytes | None = None
        self._declared = _declared_length(scope)
        self._key_id: str | None = None
        self._reserved = 0
        self._held = 0
        self._ticket = 0
        """Of the turns of a large body; 0 before the first."""
        self._kept = False

    def check_declared(self) -> None:
        """Raise PayloadTooLarge if the declared length exceeds the limit."""
        if self._declared is not None and self._declared > self._limits.max_bytes:
            raise self._too_large()

    async def __call__(self) -> Message:
        """Return the next message, as ASGI's receive.

        Raises:
            PayloadTooLarge, InvalidRequest: the body is too large, too slow, or malformed.
            RateLimited, Overloaded: the key, or the process, holds too many bytes of bodies.
        """
        if self._complete:  # the only message left is the disconnect, which may take its time
            return await self._receive()
        return self._arrived() or await self._awaited()

    def _arrived(self) -> Message | None:
        """Return the next message if it has arrived."""
        try:
            message = self._receive_arrived()
        except RequestRefusedError as refused:
            raise _malformed(refused) from None
        if message is not None:
            self._take(message)
        return message

    async def _awaited(self) -> Message:
        """Wait for the next message."""
        try:
            async with asyncio.timeout_at(self._due_at()):
                message = await self._receive()
        except TimeoutError:
            metrics.HTTP_REFUSED.labels(Reason.BODY_SLOW.value).inc()
            raise InvalidRequest(
                f"The body did not arrive within {self._limits.max_seconds:g} s, or at less than "
                f"{self._limits.min_rate} bytes per second. Send it faster or make it smaller."
            ) from None
        except RequestRefusedError as refused:
            raise _malformed(refused) from None
        self._take(message)
        return message

    async def read(self, key_id: str | None = None) -> bytes:
        """Return the whole body, also at a second call. It is counted for this key until `release`.

        Raises:
            ClientDisconnect: the client disconnected.
            PlatformError: as `__call__`.
        """
        if self._whole is None:
            if key_id is not None and self._key_id is None:
                self._key_id = key_id
                self._reserve(self._declared or 0)
            parts = []
            while not self._complete:
                if self._received > LARGE_BYTES:
                    await self._turn()  # the next part may be 250 kB that are already in the socket
                message = self._arrived() or await self._awaited()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                parts.append(message.get("body", b""))
            if self._received > UNCOUNTED_BYTES:
                self.facts = await self._look_at(parts)
            self._whole = parts[0] if len(parts) == 1 else b"".join(parts)
        return self._whole

    async def _look_at(self, parts: Sequence[bytes]) -> TextFacts:
        """Refuse a body of too many values before it is parsed. The event loop runs between the parts."""
        facts = TextFacts()
        for part in parts:
            await self._turn()
            facts.add(part)
            if facts.values > self._limits.max_values:
                metrics.HTTP_REFUSED.labels(Reason.BODY_TOO_LARGE.value).inc()
                raise of_another_form(parts[0]) or too_many_values(self._limits.max_values)
        await self._turn()  # to join and parse
        return facts

    async def _turn(self) -> None:
        """Wait for the turn of a large body. The one that began first is first."""
        self._ticket = self._ticket or new_ticket()
        await turn_for(self._received, self._ticket)

    def keep(self) -> Callable[[], None]:
        """Keep the body counted after the request has ended, because work on it continues. Return the function that
        releases it."""
        self._kept = True
        return self._give_back

    def release(self) -> None:
        """Release the body at the end of its request, unless it is kept."""
        self._whole = None
        if not self._kept:
            self._give_back()

    def _give_back(self) -> None:
        if self._key_id is not None:
            self._budget.give_back(self._key_id, self._reserved, self._held)
            self._reserved = self._held = 0

    def _due_at(self) -> float:
        """Return the time by which the next part of the body must arrive."""
        now = asyncio.get_running_loop().time()
        if self._begun_at is None:
            self._begun_at = now
        by_rate = GRACE_SECONDS + self._received / self._limits.min_rate
        return self._begun_at + min(self._limits.max_seconds, by_rate)

    def _take(self, message: Message) -> None:
        size = len(message.get("body", b""))
        self._received += size
        self._complete = not message.get("more_body", False)  # also for a disconnect
        if self._received > self._limits.max_bytes:
            raise self._too_large()
        if self._key_id is not None:
            if self._received > self._reserved:
                self._reserve(self._received - self._reserved)
            self._budget.hold(size)
            self._held += size

    def _reserve(self, size: int) -> None:
        assert self._key_id is not None  # noqa: S101 - for mypy: bodies are counted for a key
        self._budget.reserve(self._key_id, size)
        self._reserved += size

    def _too_large(self) -> PayloadTooLarge:
        metrics.HTTP_REFUSED.labels(Reason.BODY_TOO_LARGE.value).inc()
        return PayloadTooLarge(f"The body is larger than {self._limits.max_bytes} bytes.")


def _declared_length(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


def _malformed(refused: RequestRefusedError) -> PlatformError:
    """Return the error for a malformed body that the server found."""
    refusal = refused.refusal
    kind = HeadersTooLarge if refusal.status == HeadersTooLarge.status else InvalidRequest
    return kind(refusal.message)
