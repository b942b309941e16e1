"""Scripted upstreams, and calls for them."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.interfaces import UpstreamResponse
from platform_app.llm.models.route import Route
from platform_app.llm.requests import ModelCall
from platform_app.llm.responses import ChatChunk, ModelResponse

RESPONSE = ModelResponse(b"{}", {"choices": [{"message": {"content": "hi"}}]})
CHUNK = ChatChunk(b"{}", {"choices": []})

Step = UpstreamResponse | BaseException | float | Callable[[], UpstreamResponse]
"""A number means: wait for these seconds before the next step."""


def a_route(provider: str = "alpha", model: str = "large", weight: int | None = None) -> Route:
    return Route("public", provider, model, weight=weight)


def a_call(seconds: float = 60.0) -> ModelCall:
    return ModelCall({}, asyncio.get_running_loop().time() + seconds)


def a_stream(error: BaseException | None = None) -> ChunkStream:
    """Return a stream of two chunks, followed by the error or the end."""

    async def rest() -> AsyncGenerator[ChatChunk, None]:
        yield CHUNK
        if error is not None:
            raise error

    return ChunkStream(CHUNK, rest())


class ScriptedUpstream:
    """Performs one step for each call, and repeats the last one. Counts attempts like a route."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.sent_at: list[float] = []
        self.running = 0
        self.most_running = 0

    @property
    def calls(self) -> int:
        return len(self.sent_at)

    async def send(self, call: ModelCall) -> UpstreamResponse:
        self.sent_at.append(asyncio.get_running_loop().time())
        call.attempt_log.attempts += 1
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            while True:
                step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif isinstance(step, BaseException):
                    raise step
                else:
                    return step if isinstance(step, ModelResponse | ChunkStream) else step()
        finally:
            self.running -= 1


class SlowUpstream(ScriptedUpstream):
    """Performs the same for every call: wait, then a response or an error."""

    def __init__(
        self, seconds: float, end: UpstreamResponse | BaseException | Callable[[], UpstreamResponse] = RESPONSE
    ) -> None:
        super().__init__(end)
        self._seconds = seconds

    async def send(self, call: ModelCall) -> UpstreamResponse:
        self.steps = [self._seconds, *self.steps]
        return await super().send(call)
