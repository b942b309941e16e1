"""A route's work under an Idempotency-Key: which responses are stored, and when the key is freed."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from fastapi import Request
from starlette.responses import Response
from starlette.types import Message

from apps.platform_api.http.disconnect import ClientDisconnected, DisconnectSignal
from apps.platform_api.http.idempotency.detached_work import DetachedWork
from apps.platform_api.http.idempotency.run_idempotent import run_idempotent
from apps.platform_api.http.response_headers import response_headers
from apps.platform_api.http.streaming import EVENT_STREAM, ByteStream, open_byte_stream
from apps.platform_api.server.state import ServerState
from platform_app.auth.caller import Caller
from platform_app.errors import (
    IdempotencyInFlight,
    IdempotencyUnavailable,
    ModelNotAllowed,
    ModelNotFound,
    PlatformError,
    ProviderRejectedRequest,
    ProviderTimeout,
    RateLimited,
    ValidationFailed,
)
from platform_app.idempotency.in_flight import IdempotencyPolicy
from platform_app.idempotency.service import IdempotencyService
from platform_app.idempotency.stored_response import StoredResponse
from platform_app.llm.requests import ModelRequest
from platform_app.observability.context import RequestContext
from platform_app.rate_limit.limiter import Decision
from tests.support.fakes.core import Count, context
from tests.support.fakes.memory_store import MemoryStore

POLICY = IdempotencyPolicy(keep_seconds=3600, max_bytes=1000)
CALLER: Any = SimpleNamespace(key_id="k" * 12, owner="team")
ASKED = ModelRequest("gpt-4o", {})
DONE = b"data: [DONE]\n\n"


class Client:
    """Reads what is sent; disconnects when `gone` is set, or while the chunk `leaves_at` is sent."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.leaves_at: bytes | None = None
        self.body = b""

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.leaves_at is not None and message.get("body") == self.leaves_at:
            self.gone.set()
            await asyncio.Event().wait()
        self.body += message.get("body", b"")


@dataclass
class Route:
    """A route in miniature, its store, and how often its work was done."""

    store: MemoryStore
    policy: IdempotencyPolicy = POLICY
    worked: int = 0
    admitted: list[str | None] = field(default_factory=list)
    """The models whose responses were to be given again."""
    refusal: PlatformError | None = None

    def __post_init__(self) -> None:
        self.keeper = IdempotencyService(self.store, self.policy)
        self.client = Client()
        self.server = ServerState()
        self.detached = DetachedWork(self.server, 8)
        self.context = context()

    async def ask(self, work: Any, *keys: str) -> Response:
        async def counted(client: DisconnectSignal) -> Response:
            self.worked += 1
            result = work if isinstance(work, Response | BaseException) else await work()
            if isinstance(result, BaseException):
                raise result
            assert isinstance(result, Response)
            return result

        self.context = context()
        scope = {
            "type": "http", "method": "POST", "path": "/x", "query_string": b"",
            "headers": [(b"idempotency-key", key.encode("latin-1")) for key in keys],
            "state": {
                "resources": SimpleNamespace(idempotency=self.keeper, chat=SimpleNamespace(admit_replay=self.admit)),
                "context": self.context,
                "detached": self.detached,
            },
        }  # fmt: skip
        request = Request(scope, self.client.receive)
        request._body = b"{}"
        caller: Caller = CALLER
        return await run_idempotent(request, caller, self.context, ASKED, counted)

    async def admit(self, asked: ModelRequest, caller: Caller, context: RequestContext) -> None:
        self.admitted.append(asked.model)
        if self.refusal is not None:
            raise self.refusal

    async def send(self, response: Response) -> None:
        await response({"type": "http"}, self.client.receive, self.client.send)

    @property
    def held(self) -> bool:
        return any(record.owner for record in self.store.records.values())

    @property
    def kept(self) -> list[StoredResponse]:
        return [StoredResponse.decode(record.response) for record in self.store.records.values() if record.response]


@pytest.fixture
def route() -> Route:
    return Route(MemoryStore())


def events(*chunks: bytes | Exception) -> AsyncGenerator[bytes, None]:
    async def run() -> AsyncGenerator[bytes, None]:
        for chunk in chunks:
            await asyncio.sleep(0)
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    return run()


def streaming(route: Route, *chunks: bytes | Exception) -> Any:
    return lambda: open_byte_stream(events(*chunks), DisconnectSignal(), EVENT_STREAM)


async def test_request_without_key_passes_through(route: Route) -> None:
    for _ in range(2):
        await route.ask(Response(b"1"))
    assert route.worked == 2
    assert route.store.steps == []


async def test_replay_has_the_stored_headers_only(route: Route) -> None:
    async def work() -> Response:
        noted = route.context
        noted.provider, noted.upstream_model, noted.attempts = "sim", "m", 1
        noted.limits = Decision((), None)
        return Response(b'{"a":1}', media_type="application/json")

    first = await route.ask(work, "one")
    again = await route.ask(work, "one")
    assert route.worked == 1
    assert (again.status_code, again.body) == (first.status_code, first.body)
    assert sorted(again.raw_headers) == [
        (b"content-length", b"7"), (b"content-type", b"application/json"),
        (b"idempotency-replayed", b"true"), (b"x-platform-attempts", b"1"), (b"x-platform-model", b"m"),
        (b"x-platform-provider", b"sim"),
    ]  # fmt: skip
    assert (route.context.reason, route.context.decision) == ("idempotent_replay", "allow")
    assert response_headers(route.context) == []


async def test_replay_is_admitted_by_the_model_it_came_from(route: Route) -> None:
    """Which may be another one than the request would get today: it may have named none."""

    async def work() -> Response:
        route.context.model = "a-former-default"
        return Response(b"{}", media_type="application/json")

    await route.ask(work, "one")
    assert route.admitted == [], "the work itself is admitted elsewhere"
    await route.ask(work, "one")
    assert route.admitted == ["a-former-default"]


@pytest.mark.parametrize("refusal", [RateLimited("r", retry_after=9), ModelNotAllowed("m"), ModelNotFound("n")])
async def test_refused_replay_returns_the_refusal(route: Route, refusal: PlatformError) -> None:
    counts = {name: Count("platform_idempotency_total", outcome=name) for name in ("replayed", "replay_refused")}
    await route.ask(Response(b"{}"), "one")
    route.refusal = refusal
    with pytest.raises(type(refusal)):
        await route.ask(Response(b"{}"), "one")
    assert route.context.reason is None
    route.refusal = None
    assert (await route.ask(Response(b"{}"), "one")).body == b"{}"
    assert route.worked == 1
    assert {name: count.grown for name, count in counts.items()} == {"replayed": 1, "replay_refused": 1}


@pytest.mark.parametrize(
    "error",
    [
        ProviderTimeout("slow"), RateLimited("much", retry_after=1), ModelNotAllowed("no"),
        RuntimeError("a bug"), ClientDisconnected(), asyncio.CancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_work_without_a_response_frees_the_key(route: Route, error: BaseException) -> None:
    if isinstance(error, PlatformError):
        response = await route.ask(error, "one")
        assert response.status_code == error.status
        assert route.context.reason == error.code
    else:
        with pytest.raises(type(error)):
            await route.ask(error, "one")
    assert route.store.records == {}
    assert route.store.steps == ["begin", "release"]


class Slow:
    """Work that runs until it is released."""

    def __init__(self, end: Response | BaseException) -> None:
        self.end = end
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.cancelled = False

    async def __call__(self) -> Response | BaseException:
        self.begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.end


async def leave(route: Route, slow: Slow, key: str = "one") -> None:
    """Ask, and leave while it is worked on."""
    slow.begun.clear()
    route.client = Client()
    asking = asyncio.create_task(route.ask(slow, key))
    await slow.begun.wait()
    route.client.gone.set()
    with pytest.raises(ClientDisconnected):
        await asking
    route.client = Client()
    await asyncio.sleep(0)


async def test_repeated_request_gets_the_first_response(route: Route) -> None:
    """It waits for it, however often it leaves and asks, and the work is done once."""
    counts = {
        name: Count("platform_idempotency_total", outcome=name)
        for name in ("client_left", "waited", "replayed", "stored", "in_flight")
    }
    slow = Slow(Response(b"1"))
    await leave(route, slow)
    asking = [asyncio.create_task(route.ask(slow, "one")) for _ in range(3)]
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in asking)
    slow.may_end.set()
    assert [bytes((await task).body) for task in asking] == [b"1"] * 3
    assert route.worked == 1
    assert {name: count.grown for name, count in counts.items()} == {
        "client_left": 1, "waited": 3, "replayed": 3, "stored": 1, "in_flight": 0,
    }  # fmt: skip


async def test_disconnect_of_a_waiting_client_changes_nothing(route: Route) -> None:
    slow = Slow(Response(b"1"))
    await leave(route, slow)
    asking = asyncio.create_task(route.ask(slow, "one"))
    await asyncio.sleep(0.1)
    route.client.gone.set()
    with pytest.raises(ClientDisconnected):
        await asking
    assert route.held
    slow.may_end.set()
    await asyncio.wait(route.server.tasks)
    assert len(route.kept) == 1


async def test_failed_work_without_client_frees_the_key(route: Route) -> None:
    """The request that waits for the key then does the work."""
    slow = Slow(ProviderTimeout("slow"))
    await leave(route, slow)
    asking = asyncio.create_task(route.ask(Response(b"2"), "one"))
    await asyncio.sleep(0.1)
    slow.may_end.set()
    assert (await asking).body == b"2"
    assert route.worked == 2


async def test_work_beyond_the_bound_ends_with_its_client(route: Route) -> None:
    """A quarter of the requests that a process takes at once."""
    slow = Slow(Response(b"1"))
    for key in ("one", "two"):
        await leave(route, slow, key)
    assert (len(route.server.tasks), slow.cancelled) == (2, False)
    await leave(route, slow, "three")
    await asyncio.sleep(0.01)
    assert (len(route.server.tasks), slow.cancelled, route.server.in_flight) == (2, True, 2)
    assert len(route.store.records) == 2
    slow.may_end.set()
    await asyncio.wait(route.server.tasks)


async def test_unprotected_work_ends_with_its_client(route: Route) -> None:
    """Without a lease on the key, continued work could be done twice."""
    open_route = Route(MemoryStore(), replace(POLICY, refuse_when_unavailable=False))
    open_route.store.down = True
    slow = Slow(Response(b"1"))
    await leave(open_route, slow)
    await asyncio.sleep(0.01)
    assert slow.cancelled
    assert open_route.server.in_flight == 0


async def test_shutdown_cancels_work_and_frees_the_key(route: Route) -> None:
    slow = Slow(Response(b"1"))
    await leave(route, slow)
    await route.detached.aclose(0.01)
    assert slow.cancelled
    assert (route.store.records, route.server.tasks, route.server.in_flight) == ({}, set(), 0)


async def test_provider_refusal_is_stored_as_rendered(route: Route) -> None:
    first = await route.ask(ProviderRejectedRequest("no", details=["why"]), "one")
    again = await route.ask(ProviderRejectedRequest("no", details=["why"]), "one")
    assert route.worked == 1
    assert (again.status_code, again.body) == (400, first.body)
    assert orjson.loads(bytes(first.body))["error"]["details"] == ["why"]


@pytest.mark.parametrize("keys", [("",), ("x" * 256,), ("a\x7f",), ("ä",), ("a", "b")])
async def test_malformed_key_is_refused(route: Route, keys: tuple[str, ...]) -> None:
    with pytest.raises(ValidationFailed):
        await route.ask(Response(), *keys)
    assert route.worked == 0
    assert route.store.steps == []


async def test_repeated_header_with_one_key_is_accepted(route: Route) -> None:
    await route.ask(Response(b"1"), "a", "a")
    assert len(route.kept) == 1


async def test_unavailable_store_refuses_or_is_reported(route: Route) -> None:
    route.store.down = True
    with pytest.raises(IdempotencyUnavailable):
        await route.ask(Response(b"1"), "one")
    assert route.worked == 0
    open_route = Route(MemoryStore(), replace(POLICY, refuse_when_unavailable=False))
    open_route.store.down = True
    response = await open_route.ask(Response(b"1"), "one")
    assert response.body == b"1"
    assert response_headers(open_route.context) == [(b"idempotency-unavailable", b"true")]
    # The header describes the moment; it is not stored with the response.
    open_route.store.down = False
    await open_route.ask(Response(b"1"), "one")
    await open_route.ask(Response(b"1"), "one")
    assert not open_route.context.idempotency_unavailable
    assert open_route.worked == 2


# --- streams


async def test_stream_is_stored_before_its_last_event(route: Route) -> None:
    response = await route.ask(streaming(route, b"data: 1\n\n", b"data: 2\n\n", DONE), "one")
    assert isinstance(response, ByteStream)
    route.client.leaves_at = DONE  # hangs up in the middle of the last event
    with pytest.raises(ClientDisconnected):
        await route.send(response)
    (kept,) = route.kept
    assert kept.body == b"data: 1\n\ndata: 2\n\n" + DONE
    again = await route.ask(streaming(route, DONE), "one")
    assert route.worked == 1
    assert again.body == kept.body
    assert (b"content-type", b"text/event-stream; charset=utf-8") in again.raw_headers


async def test_stream_of_one_event_is_stored(route: Route) -> None:
    response = await route.ask(streaming(route, DONE), "one")
    await route.send(response)
    assert [stored.body for stored in route.kept] == [DONE]


@pytest.mark.parametrize("at", [b"data: 1\n\n", b"data: 2\n\n"])
async def test_stream_continues_without_its_client(route: Route, at: bytes) -> None:
    """Also where it leaves while the first chunk is sent; its request is counted until the work ends."""
    may_end = asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        yield b"data: 2\n\n"
        await may_end.wait()
        yield DONE

    response = await route.ask(lambda: open_byte_stream(source(), DisconnectSignal(), EVENT_STREAM), "one")
    assert route.held
    route.client.leaves_at = at
    with pytest.raises(ClientDisconnected):
        await route.send(response)
    assert (route.held, route.server.in_flight, len(route.server.tasks)) == (True, 1, 1)
    may_end.set()
    await asyncio.wait(route.server.tasks)
    assert [stored.body for stored in route.kept] == [b"data: 1\n\ndata: 2\n\n" + DONE]
    await asyncio.sleep(0)
    assert (route.server.in_flight, route.server.tasks) == (0, set())


async def test_stream_without_a_client_is_not_slowed_down(route: Route) -> None:
    """More chunks than the queue between work and client holds."""
    chunks = [b"data: %d\n\n" % number for number in range(50)]
    response = await route.ask(streaming(route, *chunks, DONE), "one")
    route.client.leaves_at = chunks[0]
    with pytest.raises(ClientDisconnected):
        await route.send(response)
    await asyncio.wait(route.server.tasks)
    assert [stored.body for stored in route.kept] == [b"".join(chunks) + DONE]


async def test_stream_too_large_to_store_ends_with_client(route: Route) -> None:
    chunks = [b"data: %d %b\n\n" % (number, b"x" * 300) for number in range(50)]
    source = events(*chunks, DONE)
    response = await route.ask(lambda: open_byte_stream(source, DisconnectSignal(), EVENT_STREAM), "one")
    route.client.leaves_at = chunks[5]
    with pytest.raises(ClientDisconnected):
        await route.send(response)
    await asyncio.wait(route.server.tasks)
    assert route.store.records == {}
    with pytest.raises(StopAsyncIteration):  # and the source is closed
        await anext(source)


@pytest.mark.parametrize("end", [b'data: {"error":{}}\n\n', b"event: error\ndata: {}\n\n", RuntimeError("a bug")])
async def test_failed_stream_frees_the_key(route: Route, end: bytes | Exception) -> None:
    response = await route.ask(streaming(route, b"data: 1\n\n", end), "one")
    await asyncio.gather(route.send(response), return_exceptions=True)
    assert route.store.records == {}
    assert route.store.steps == ["begin", "release"]


async def test_end_marker_inside_an_event_is_ignored(route: Route) -> None:
    response = await route.ask(streaming(route, b'data: {"content":"data: [DONE]\\n"}\n\n', b"data: x\n\n"), "one")
    await route.send(response)
    assert route.store.records == {}


async def test_stream_above_the_bound_is_sent_not_stored(route: Route) -> None:
    chunks = [b"data: %b\n\n" % (b"x" * 300)] * 10
    response = await route.ask(streaming(route, *chunks, DONE), "one")
    assert isinstance(response, ByteStream)
    await route.send(response)
    assert route.client.body == b"".join(chunks) + DONE
    (record,) = route.store.records.values()
    assert (record.owner, record.response) == (None, b"")


async def test_second_request_during_a_stream_is_refused(route: Route) -> None:
    response = await route.ask(streaming(route, b"data: 1\n\n", DONE), "one")
    with pytest.raises(IdempotencyInFlight):
        await route.ask(streaming(route, DONE), "one")
    await route.send(response)
    assert len(route.kept) == 1
