"""The body of an error response is read for a bounded time, and only if it can explain the error. Large bodies are
worked on in turns."""

import asyncio

import pytest

from platform_app.llm.http import response as module
from platform_app.llm.http.response import ProviderLimits, ProviderResponse
from platform_app.llm.http.timeouts import CallTimeouts
from platform_app.llm.http.transport.response_stream import ResponseStream
from tests.support.timing.iterations import counted_iterations

LONG = 3600.0


class Handle:
    aborted = False

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self) -> None:
        self.aborted = True


def response_with(status: int) -> tuple[ProviderResponse, ResponseStream, Handle]:
    handle = Handle()
    stream = ResponseStream(handle, asyncio.get_running_loop())
    stream.feed_head(status, {})
    return ProviderResponse(stream, ProviderLimits(LONG, LONG, 1 << 20), CallTimeouts(LONG, LONG)), stream, handle


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ERROR_SECONDS", 0.2)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("start", [b"", b'{"error": {"message": "out of'])
async def test_error_body_without_end_is_cut_off(start: bytes) -> None:
    """The idle timeout and the deadline are an hour away."""
    response, stream, handle = response_with(500)
    if start:
        stream.feed_body(start)
    async with asyncio.timeout(60):
        assert await response.read_error() == start
    assert handle.aborted


@pytest.mark.usefixtures("short")
async def test_dripped_error_body_does_not_extend_its_time() -> None:
    response, stream, handle = response_with(503)

    async def drip() -> None:
        while not handle.aborted:
            stream.feed_body(b".")
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(60):
        assert set(await response.read_error()) == set(b".")
        await dripping


@pytest.mark.parametrize("status", [204, 302])
async def test_body_below_400_is_not_read(status: int) -> None:
    response, stream, handle = response_with(status)
    stream.feed_body(b"moved")
    async with asyncio.timeout(60):
        assert await response.read_error() == b""
    assert handle.aborted


async def test_complete_error_body_is_read_whole() -> None:
    response, stream, handle = response_with(400)
    stream.feed_body(b"{}")
    stream.feed_end()
    assert await response.read_error() == b"{}"
    assert not handle.aborted


async def test_large_bodies_are_worked_on_in_turns() -> None:
    """Parsing follows at once where a body is read; several must not be parsed in one iteration of the event loop."""
    parsed: list[int] = []

    async def read_large() -> None:
        response, stream, _ = response_with(200)
        stream.feed_body(bytes(200_000))
        stream.feed_end()
        await response.read_body()
        parsed.append(iterations.now)

    with counted_iterations() as iterations:
        await asyncio.gather(*(read_large() for _ in range(5)))
    assert len(set(parsed)) == 5
