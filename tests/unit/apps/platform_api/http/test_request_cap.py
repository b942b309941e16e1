"""A worker takes at most PLATFORM_MAX_CONCURRENT_REQUESTS requests at once; the next one is refused."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from apps.platform_api.http.body.request_body import BodyBudget, BodyLimits
from apps.platform_api.http.middleware.request import RequestLimits, RequestMiddleware
from apps.platform_api.server.state import ServerState

CAP = 2


class Worker:
    """The middleware around an application whose requests wait until they may end."""

    def __init__(self) -> None:
        self.state = ServerState()
        self.may_end = asyncio.Event()
        limits = RequestLimits(BodyLimits(1000, 1), BodyBudget(10_000, 10_000), CAP)
        self._middleware = RequestMiddleware(self._app, self.state, limits)

    async def status(self, path: str = "/v1/platform/chat") -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "client": ("192.0.2.1", 1), "state": {}}
        await self._middleware(scope, _receive, send)
        return int(sent[0]["status"])

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/v1/platform/chat":
            assert self.state.in_flight <= CAP
            await self.may_end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


@pytest.fixture
async def worker() -> Worker:
    return Worker()


async def test_request_over_the_cap_is_refused(worker: Worker) -> None:
    taken = [asyncio.create_task(worker.status()) for _ in range(CAP)]
    await asyncio.sleep(0)
    assert worker.state.in_flight == CAP
    assert await worker.status() == 503
    worker.may_end.set()
    assert [await each for each in taken] == [200] * CAP
    assert worker.state.in_flight == 0
    assert await worker.status() == 200


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz", "/v1/meta"])
async def test_probe_over_the_cap_is_served(worker: Worker, path: str) -> None:
    taken = [asyncio.create_task(worker.status()) for _ in range(CAP)]
    await asyncio.sleep(0)
    assert await worker.status(path) == 200
    worker.may_end.set()
    await asyncio.gather(*taken)
