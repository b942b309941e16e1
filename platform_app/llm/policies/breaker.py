"""A route that fails is left alone for a while."""

import asyncio

from platform_app.llm.chunk_stream import ChunkStream, StreamObserver
from platform_app.llm.interfaces import Answer, Upstream
from platform_app.llm.policies.breaker_state import BreakerState, Permit
from platform_app.llm.policies.failure_table import Health, verdict_of
from platform_app.llm.requests import ModelCall

_TIMER_SLACK_SECONDS = 0.01
"""Event loops fire timers up to some milliseconds early."""


class Breaker:
    """Asks the shared state before each call and tells it how each ended, streams included."""

    def __init__(self, upstream: Upstream, state: BreakerState) -> None:
        self._upstream = upstream
        self._state = state

    async def send(self, call: ModelCall) -> Answer:
        """See Upstream.send.

        Raises:
            BreakerOpen: nothing was sent.
        """
        permit = self._state.admit()
        sent = call.journal.attempts
        try:
            answer = await self._upstream.send(call)
        except BaseException as error:
            permit.settle(_health(error, call) if call.journal.attempts > sent else Health.UNKNOWN)
            raise
        if isinstance(answer, ChunkStream):
            permit.first_chunk()
            answer.on_end(StreamObserver.BREAKER, _Ending(permit))
        else:
            permit.settle(Health.WORKS)
        return answer


class _Ending:
    """How a stream ended, as told by the stream."""

    __slots__ = ("_permit",)

    def __init__(self, permit: Permit) -> None:
        self._permit = permit

    def __call__(self, error: BaseException | None) -> None:
        self._permit.settle(Health.WORKS if error is None else verdict_of(error).health)


def _health(error: BaseException, call: ModelCall) -> Health:
    """A client that leaves says nothing of the route; a deadline that cuts the call off says that it is too slow."""
    if isinstance(error, asyncio.CancelledError):
        late = asyncio.get_running_loop().time() >= call.deadline - _TIMER_SLACK_SECONDS
        return Health.FAILS if late else Health.UNKNOWN
    return verdict_of(error).health
