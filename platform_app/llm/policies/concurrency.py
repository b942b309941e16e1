"""A provider's concurrency limit: at most so many calls at once, and a bounded queue in front of them.

`Concurrency` is the policy around one route, `ConcurrencyLimit` the count and the queue that all routes of a provider
share.
"""

import asyncio

from platform_app.errors import Overloaded
from platform_app.llm.chunk_stream import ChunkStream, StreamObserver
from platform_app.llm.interfaces import Upstream, UpstreamResponse
from platform_app.llm.requests import ModelCall
from platform_app.observability import metrics

RETRY_AFTER_SECONDS = 1.0


class Concurrency:
    """Holds one of the provider's slots from before the call until its answer is complete, streams included."""

    def __init__(self, upstream: Upstream, slots: "ConcurrencyLimit") -> None:
        self._upstream = upstream
        self._slots = slots

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send.

        Raises:
            Overloaded: no slot came free; nothing was sent.
        """
        await self._slots.acquire(call.deadline)
        try:
            answer = await self._upstream.send(call)
        except BaseException:
            self._slots.release()
            raise
        if isinstance(answer, ChunkStream):
            answer.on_end(StreamObserver.CONCURRENCY, self._release)
        else:
            self._slots.release()
        return answer

    def _release(self, _: BaseException | None) -> None:
        self._slots.release()


class ConcurrencyLimit:
    """First come, first served. A slot that comes free goes to the longest waiting call; none can be overtaken.

    Everything but the waiting happens in one step of the event loop, so the counts are never in between.
    """

    def __init__(self, provider: str, limit: int, max_waiting: int, queue_seconds: float) -> None:
        self.in_use = 0
        self._provider = provider
        self._waiting: dict[asyncio.Future[None], None] = {}  # in order, and quick to leave from the middle
        self._gauges = (
            metrics.PROVIDER_SLOTS_IN_USE.labels(provider),
            metrics.PROVIDER_SLOTS_WAITING.labels(provider),
            metrics.PROVIDER_SLOTS.labels(provider),
        )
        self.resize(limit, max_waiting, queue_seconds)

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._waiting)

    def resize(self, limit: int, max_waiting: int, queue_seconds: float) -> None:
        """Take new numbers; calls that have a slot keep it, and those in the queue their place."""
        self._limit, self._max_waiting, self._queue_seconds = limit, max_waiting, queue_seconds
        self._gauges[2].set(limit)
        self._grant()

    def retire(self) -> None:
        """The provider has no cap any more."""
        self._gauges[2].set(0)

    async def acquire(self, deadline: float) -> None:
        """Wait for a slot, for `queue_seconds` and not past the deadline (the event loop's time). Whoever got one must
        release it.

        Raises:
            Overloaded: the queue is full, or the wait was too long.
        """
        if self.in_use < self._limit and not self._waiting:
            self.in_use += 1
            self._gauges[0].inc()
            return
        if len(self._waiting) >= self._max_waiting:
            raise self._refusal("queue_full")
        await self._wait(deadline)

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
                self.release()  # it came in the same moment
            else:
                self._leave(turn)
            if isinstance(error, TimeoutError):
                raise self._refusal("queue_timeout") from None
            raise

    def release(self) -> None:
        """Give a slot back."""
        self.in_use -= 1
        self._gauges[0].dec()
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self.in_use < self._limit:
            turn = next(iter(self._waiting))
            self._leave(turn)
            if not turn.done():  # else cancelled a moment ago, and its waiter has not run since
                self.in_use += 1
                self._gauges[0].inc()
                turn.set_result(None)

    def _leave(self, turn: "asyncio.Future[None]") -> None:
        if turn in self._waiting:
            del self._waiting[turn]
            self._gauges[1].dec()

    def _refusal(self, reason: str) -> Overloaded:
        metrics.PROVIDER_REFUSED.labels(self._provider, reason).inc()
        return Overloaded(
            f"Too many calls to the provider '{self._provider}' are under way. Try again shortly.",
            retry_after=RETRY_AFTER_SECONDS,
        )
