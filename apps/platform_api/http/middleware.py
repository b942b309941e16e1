"""What every request passes, as pure ASGI: identity, caps, draining, one access decision, one access line."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.platform_api.http.access_log import AccessLog, shown_method
from apps.platform_api.http.body.request_body import BodyBudget, BodyLimits, BoundedRequestBody
from apps.platform_api.http.client_address import client_address
from apps.platform_api.http.cors import ROUTE as PREFLIGHT
from apps.platform_api.http.cors import CorsPolicy
from apps.platform_api.http.disconnect import ClientDisconnected
from apps.platform_api.http.errors import internal_error, note_and_render
from apps.platform_api.http.request_state import route_template
from apps.platform_api.http.response_headers import response_headers
from apps.platform_api.openai.errors import speaks_openai
from apps.platform_api.server.state import ServerState
from platform_app.config import Network
from platform_app.errors import (
    Draining,
    LedgerUnavailable,
    Overloaded,
    PlatformError,
)
from platform_app.ledger.events.event import AccessDecision
from platform_app.ledger.interfaces import Ledger, NullLedger
from platform_app.observability import ids, metrics
from platform_app.observability.context import RequestContext, set_current_request
from platform_app.observability.credential_forms import id_may_hold_credential
from platform_app.observability.logging import get_logger
from platform_app.observability.tracing import continue_trace

ACCESS_LINES_PER_ADDRESS = 60
"""Of requests without a key, in a minute; the default of PLATFORM_REFUSALS_PER_ADDRESS_PER_MINUTE."""
CLIENT_CLOSED = 499
"""The status noted for a client that left; nginx's number, never sent."""

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_PROBES = frozenset({"/healthz", "/livez", "/readyz"})
"""Asked every few seconds by machines, about the process alone: nobody's access, so not in the ledger."""
_NEVER_REFUSED = _PROBES | {"/v1/meta"}
_NO_LEDGER = NullLedger()

_log = get_logger("access")


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request and one process may take."""

    body: BodyLimits
    body_budget: BodyBudget
    concurrent_requests: int
    trusted_proxies: Sequence[Network] = ()
    """Whose X-Forwarded-For is believed."""
    cors: CorsPolicy | None = None
    """Pages of which origins may call; None: of none."""


class RequestMiddleware:
    """The outermost layer of ours: whatever happens inside, the answer has its ids, and a line is written."""

    def __init__(
        self, app: ASGIApp, state: ServerState, caps: RequestLimits, access_log: AccessLog | None = None
    ) -> None:
        self._app = app
        self._state = state
        self._caps = caps
        self._access_log = access_log or AccessLog(ACCESS_LINES_PER_ADDRESS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; lifespan and other scopes pass by."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = _open_context(scope, self._caps.trusted_proxies)
        ledger = _ledger_of(scope)
        answer = _Answer(scope, send, context, self._state, ledger, self._caps.cors)
        self._state.in_flight += 1
        metrics.HTTP_IN_FLIGHT.inc()
        body = BoundedRequestBody(scope, receive, self._caps.body, self._caps.body_budget)
        scope["state"]["body"] = body
        scope["state"]["send"] = answer.send
        try:
            self._refuse_early(scope, ledger)
            body.check_declared()
            if self._caps.cors is not None and await self._answer_preflight(scope, context, answer):
                return
            await self._app(scope, body, answer.send)
        except (ClientDisconnected, ClientDisconnect):  # Starlette's: it left while it sent its body
            context.reason = "client_closed"
            answer.status = CLIENT_CLOSED
        except PlatformError as error:
            if isinstance(error, LedgerUnavailable):
                answer.ledger = _NO_LEDGER  # there is no room for it; a counter and the access line have it
            await self._answer_error(error, context, answer, scope)
        except Exception:  # noqa: BLE001 - the last net: a client never waits for an answer in vain
            # Whatever gets here is a bug; the client gets its 500 with the ids to quote, the log the places.
            _log.exception("unhandled_error")
            await self._answer_error(internal_error(), context, answer, scope)
        finally:
            body.release()
            # It holds the scope, which holds it: without this, every request would wait for the garbage collector,
            # and with it what its connection has not sent.
            del scope["state"]["send"]
            self._state.in_flight -= 1
            metrics.HTTP_IN_FLIGHT.dec()
            answer.record()
            _close_context(context, answer, self._access_log)

    async def _answer_preflight(self, scope: Scope, context: RequestContext, answer: "_Answer") -> bool:
        """Answer a browser that asks, without a key, whether a page may call. Costs as little as a refusal."""
        cors = self._caps.cors
        assert cors is not None  # noqa: S101 - for mypy
        response = cors.preflight(scope) if scope["method"] == "OPTIONS" else None
        if response is None:
            return False
        context.route = PREFLIGHT
        await response(scope, _nothing_to_receive, answer.send)
        return True

    def _refuse_early(self, scope: Scope, ledger: Ledger) -> None:
        """Raise a PlatformError where nothing of the request is to be looked at, its body least of all."""
        ledger.admit()
        if scope["path"] in _NEVER_REFUSED:
            return
        if self._state.draining:
            raise Draining("This instance is shutting down. Try again.", retry_after=1)
        if self._state.in_flight > self._caps.concurrent_requests:
            raise Overloaded("This instance is at its limit of concurrent requests. Try again.", retry_after=1)

    async def _answer_error(
        self, error: PlatformError, context: RequestContext, answer: "_Answer", scope: Scope
    ) -> None:
        response = note_and_render(error, context)
        if not answer.started:
            await response(scope, _nothing_to_receive, answer.send)


class _Answer:
    """`send` that adds the headers every answer has, remembers what was sent, and records the access decision before
    the client can have the whole answer."""

    def __init__(
        self,
        scope: Scope,
        send: Send,
        context: RequestContext,
        server: ServerState,
        ledger: Ledger,
        cors: CorsPolicy | None = None,
    ) -> None:
        self._scope = scope
        self._cors = cors
        self._send = send
        self._server = server
        self._context = context
        self._head: Message | None = None
        self.event: AccessDecision | None = None
        self.ledger = ledger
        self.status = 0
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            context = self._context
            headers = message["headers"] = list(message["headers"])
            headers.append((b"x-request-id", context.request_id.encode()))
            headers.append((b"traceparent", context.trace.traceparent.encode()))
            headers.extend(response_headers(context))
            if self._cors is not None:
                headers.extend(self._cors.headers(self._scope))
            _forbid_storing(headers)
            if self._server.draining and (b"connection", b"close") not in headers:
                # A kept-alive connection moves to another instance with its next request.
                headers.append((b"connection", b"close"))
            # Held back until the body begins: an answer without a body is whole once its head is sent.
            self._head = message
            return
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.record()
        if self._head is not None:
            head, self._head = self._head, None
            self.started = True
            await self._send(head)
        await self._send(message)

    def record(self) -> None:
        """Append the access decision, once per request."""
        if self.event is not None:
            return
        context = self._context
        if context.route == "unmatched":
            context.route = route_template(self._scope)
        self.event = AccessDecision(
            event_id=ids.trace_id(),
            occurred_at=datetime.now(UTC),
            request_id=context.request_id,
            trace_id=context.trace.trace_id,
            key_id=context.key_id,
            method=context.method,
            route=context.route,
            decision=context.decision,
            reason=context.reason,
            status=self.status,
            client_address=context.client_address,
            duration_ms=context.elapsed_ms(time.perf_counter()),
        )
        self.ledger.append(self.event)


def _forbid_storing(headers: list[tuple[bytes, bytes]]) -> None:
    """No cache keeps any response of ours: most belong to one key, which caches do not know (X-API-Key), and the others
    are about this moment."""
    for index, (name, value) in enumerate(headers):
        if name == b"cache-control":
            if b"no-store" not in value:
                headers[index] = (name, value + b", no-store")
            return
    headers.append((b"cache-control", b"no-store"))


def _open_context(scope: Scope, trusted_proxies: Sequence[Network]) -> RequestContext:
    traceparent = _header(scope, b"traceparent")
    context = RequestContext(
        request_id=_request_id(_header(scope, b"x-request-id")),
        trace=continue_trace(traceparent.decode("latin-1") if traceparent else None),
        # A method is any word that the client likes, and this one is stored.
        method=shown_method(scope["method"]),
        client_address=client_address(scope, trusted_proxies),
        started=time.perf_counter(),
        openai=speaks_openai(scope["path"]),
    )
    scope.setdefault("state", {})["context"] = context
    set_current_request(context)
    return context


def _request_id(given: bytes | None) -> str:
    """The client's own id if it is sane, else a new one. It is stored and sent back, so it must not hold a key."""
    if given is None or not _SANE_REQUEST_ID.fullmatch(given):
        return ids.request_id()
    if id_may_hold_credential(given):
        metrics.MISPLACED_CREDENTIALS.labels("x-request-id").inc()
        return ids.request_id()
    return given.decode()


def _ledger_of(scope: Scope) -> Ledger:
    """Where this request is recorded."""
    if scope["path"] in _PROBES and scope["method"] in ("GET", "HEAD"):
        return _NO_LEDGER
    resources = scope["state"].get("resources")
    return resources.ledger if resources is not None else _NO_LEDGER  # none: an app whose lifespan never ran


def _close_context(context: RequestContext, answer: _Answer, access_log: AccessLog) -> None:
    duration = time.perf_counter() - context.started
    metrics.HTTP_REQUESTS.labels(context.method, context.route, str(answer.status)).inc()
    metrics.HTTP_SECONDS.labels(context.route).observe(duration)
    if answer.event is not None:
        access_log.write(answer.event, context, duration * 1000)


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    for name, value in scope["headers"]:
        if name == wanted:
            found: bytes = value
            return found
    return None


async def _nothing_to_receive() -> Message:
    return {"type": "http.disconnect"}
