"""No more calls to a provider at once than its operator allows."""

from platform_app.llm.chunk_stream import ChunkStream, StreamObserver
from platform_app.llm.interfaces import Answer, Upstream
from platform_app.llm.policies.concurrency_limit import ConcurrencyLimit
from platform_app.llm.requests import ModelCall


class Concurrency:
    """Holds one of the provider's slots from before the call until its answer is complete, streams included."""

    def __init__(self, upstream: Upstream, slots: ConcurrencyLimit) -> None:
        self._upstream = upstream
        self._slots = slots

    async def send(self, call: ModelCall) -> Answer:
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
