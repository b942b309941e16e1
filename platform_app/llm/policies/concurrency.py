"""A provider's concurrency limit: at most so many calls at once, and a bounded queue in front of them.

`Concurrency` is the policy around one route. `ConcurrencyLimit` is the count and the queue that all routes of a
provider share.
"""

import asyncio
import time

from platform_app.errors import Overloaded
from platform_app.llm.chunk_stream import ChunkStream, StreamObserver
from platform_app.llm.interfaces import Upstream, UpstreamResponse
from platform_app.llm.requests import ModelCall
from platform_app.observability import metrics
from platform_app.observability.metrics.zeros import start_refusals_at_zero
from platform_app.observability.record import OK, QUEUE

RETRY_AFTER_SECONDS = 1.0


class Concurrency:
    """Count a call against the provider's limit from before it is sent until its response is complete, streams
    included."""

    def __init__(self, upstream: Upstream, limit: "ConcurrencyLimit") -> None:
        self._upstream = upstream
        self._limit = limit

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send.

        Raises:
            Overloaded: the queue was full or the wait too long; nothing was sent.
        """
        began = time.perf_counter()
        if await self._limit.acquire(call.deadline):
            call.attempt_log.record.hops.append((QUEUE, began, time.perf_counter(), OK))
        try:
            response = await self._upstream.send(call)
        except BaseException:
            self._limit.release()
            raise
        if isinstance(response, ChunkStream):
            response.on_end(StreamObserver.CONCURRENCY, self._release)
        else:
            self._limit.release()
        return response

    def _release(self, _: BaseException | None) -> None:
        self._limit.release()


class ConcurrencyLimit:
    """A semaphore with a bounded, fair queue: a free place goes to the call that has waited longest.

    Everything but the wait happens within one step of the event loop, so that other tasks never see a count that is
    only half changed.
    """

    def __init__(self, provider: str, limit: int, max_waiting: int, queue_seconds: float) -> None:
        self.in_use = 0
        self._provider = provider
        self._waiting: dict[asyncio.Future[None], None] = {}  # ordered, and removal from the middle is cheap
        self._gauges = (
            metrics.PROVIDER_SLOTS_IN_USE.labels(provider),
            metrics.PROVIDER_SLOTS_WAITING.labels(provider),
            metrics.PROVIDER_SLOTS.labels(provider),
        )
        start_refusals_at_zero(provider, "queue_full", "queue_timeout")
        self.resize(limit, max_waiting, queue_seconds)

    @property
    def waiting(self) -> int:
        """The number of calls in the queue."""
        return len(self._waiting)

    def resize(self, limit: int, max_waiting: int, queue_seconds: float) -> None:
        """Change the limits. Running calls continue, and queued calls keep their place."""
        self._limit, self._max_waiting, self._queue_seconds = limit, max_waiting, queue_seconds
        self._gauges[2].set(limit)
        self._admit_waiting()

    def retire(self) -> None:
        """Reset the gauge when the provider has no limit any more."""
        self._gauges[2].set(0)

    async def acquire(self, deadline: float) -> bool:
        """Wait until the call may be sent, for at most `queue_seconds` and not past the deadline (the event loop's
        time). The caller must release what it acquired. Return whether the call had to wait.

        Raises:
            Overloaded: the queue is full, or the wait was too long.
        """
        if self.in_use < self._limit and not self._waiting:
            self.in_use += 1
            self._gauges[0].inc()
            return False
        if len(self._waiting) >= self._max_waiting:
            raise self._refusal("queue_full")
        await self._wait(deadline)
        return True

    async def _wait(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting[turn] = None
        self._gauges[1].inc()
        try:
            async with asyncio.timeout_at(min(loop.time() + self._queue_seconds, deadline)):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.release()  # the place was assigned in the same loop iteration
            else:
                self._leave_queue(turn)
            if isinstance(error, TimeoutError):
                raise self._refusal("queue_timeout") from None
            raise

    def release(self) -> None:
        """Free the place of a call that has ended."""
        self.in_use -= 1
        self._gauges[0].dec()
        self._admit_waiting()

    def _admit_waiting(self) -> None:
        while self._waiting and self.in_use < self._limit:
            turn = next(iter(self._waiting))
            self._leave_queue(turn)
            if not turn.done():  # a done one was cancelled, and its task has not run since
                self.in_use += 1
                self._gauges[0].inc()
                turn.set_result(None)

    def _leave_queue(self, turn: "asyncio.Future[None]") -> None:
        if turn in self._waiting:
            del self._waiting[turn]
            self._gauges[1].dec()

    def _refusal(self, reason: str) -> Overloaded:
        metrics.PROVIDER_REFUSED.labels(self._provider, reason).inc()
        return Overloaded(
            f"The provider '{self._provider}' has too many calls in progress. Try again shortly.",
            retry_after=RETRY_AFTER_SECONDS,
        )
