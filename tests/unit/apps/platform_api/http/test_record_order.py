"""When, and how often, the middleware records: seen from a server that writes down what it is given."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.platform_api.http.body.request_body import BodyBudget, BodyLimits
from apps.platform_api.http.disconnect import ClientDisconnected
from apps.platform_api.http.middleware.request import RequestLimits, RequestMiddleware
from apps.platform_api.server.state import ServerState
from platform_app.errors import LedgerUnavailable, ModelNotFound, RateLimited
from platform_app.ledger.events.event import AccessDecision

CAPS = RequestLimits(BodyLimits(1000, 1), BodyBudget(10_000, 10_000), 10)


class Server:
    """A server and a ledger in one object, which shows the order of their calls."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.events: list[AccessDecision] = []
        self.sent: list[Message] = []
        self.full = False

    def admit(self) -> None:
        if self.full:
            raise LedgerUnavailable("full", retry_after=5)

    def append(self, event: AccessDecision) -> None:
        self.steps.append("record")
        self.events.append(event)

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        more = message.get("more_body", False)
        self.steps.append("head" if message["type"] == "http.response.start" else "part" if more else "end")

    async def receive(self) -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def call(
        self, app: ASGIApp, path: str = "/v1/platform/chat", method: str = "POST", draining: bool = False
    ) -> None:
        envelope = RequestMiddleware(app, ServerState(draining=draining), CAPS)
        scope = {
            "type": "http", "method": method, "path": path, "headers": [], "client": ("192.0.2.1", 1),
            "state": {"resources": SimpleNamespace(ledger=self)},
        }  # fmt: skip
        await envelope(scope, self.receive, self.send)


def answering(*parts: bytes, status: int = 200) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


def failing(error: BaseException, *before: Callable[[Send], Awaitable[None]]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for step in before:
            await step(send)
        raise error

    return app


async def _head(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def _part(send: Send) -> None:
    await send({"type": "http.response.body", "body": b"x", "more_body": True})


async def test_decision_is_recorded_before_the_last_byte() -> None:
    server = Server()
    await server.call(answering())
    assert server.steps == ["record", "head", "end"], "an answer without a body is whole with its head"
    server = Server()
    await server.call(answering(b"1", b"2"))
    assert server.steps == ["head", "part", "part", "record", "end"]
    assert server.events[0].status == 200


@pytest.mark.parametrize(
    ("error", "status", "reason", "decision"),
    [
        (ModelNotFound("no"), 404, "model_not_found", "deny"),
        (RateLimited("slow down", retry_after=1), 429, "rate_limited", "deny"),
        (ValueError("a bug"), 500, "internal_error", "allow"),
    ],
)
async def test_errors_are_recorded_once(error: Exception, status: int, reason: str, decision: str) -> None:
    server = Server()
    await server.call(failing(error))
    assert server.steps == ["record", "head", "end"]
    event = server.events[0]
    assert (event.status, event.reason, event.decision, event.client_address) == (status, reason, decision, "192.0.2.1")


async def test_bug_between_head_and_body_gets_500() -> None:
    server = Server()
    await server.call(failing(ValueError("a bug"), _head))
    assert server.sent[0]["status"] == 500
    assert [event.status for event in server.events] == [500]


async def test_bug_inside_a_body_records_the_sent_status() -> None:
    server = Server()
    await server.call(failing(ValueError("a bug"), _head, _part))
    assert server.steps == ["head", "part", "record"]
    assert (server.events[0].status, server.events[0].reason) == (200, "internal_error")


@pytest.mark.parametrize("before", [(), (_head,), (_head, _part)])
async def test_disconnect_is_recorded_once(before: tuple[Callable[[Send], Awaitable[None]], ...]) -> None:
    server = Server()
    await server.call(failing(ClientDisconnected(), *before))
    assert [(event.status, event.reason) for event in server.events] == [(499, "client_closed")]


async def test_cancelled_request_is_recorded() -> None:
    server = Server()
    with pytest.raises(KeyboardInterrupt):
        await server.call(failing(KeyboardInterrupt()))
    assert [event.status for event in server.events] == [0]


async def test_full_ledger_refuses_before_anything_else() -> None:
    for draining in (False, True):
        server = Server()
        server.full = True
        await server.call(failing(AssertionError("reached")), draining=draining)
        assert "record" not in server.steps, "there is no room for it"
        assert server.sent[0]["status"] == 503
        assert (b"retry-after", b"5") in server.sent[0]["headers"]


async def test_refusals_while_draining_are_recorded() -> None:
    server = Server()
    await server.call(answering(), draining=True)
    assert [(event.status, event.reason) for event in server.events] == [(503, "draining")]


async def test_probes_are_not_recorded_and_pass_full_ledger() -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        server = Server()
        server.full = True
        await server.call(answering(), path, "GET")
        assert server.steps == ["head", "end"]
    server = Server()
    await server.call(answering(status=405), "/livez", "DELETE")
    assert len(server.events) == 1


async def test_app_without_resources_records_nothing() -> None:
    state: dict[str, Any] = {}
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": "GET", "path": "/v1/meta", "headers": [], "client": None, "state": state}
    await RequestMiddleware(answering(), ServerState(), CAPS)(scope, Server().receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
