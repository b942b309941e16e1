"""The outermost layer of every request, as pure ASGI.

It gives the request its ids, refuses it while the process drains or is overloaded, bounds its body, renders errors,
and writes one access decision and one access line.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.platform_api.http.body.request_body import BodyBudget, BodyLimits, BoundedRequestBody
from apps.platform_api.http.client_address import client_address
from apps.platform_api.http.contracts import contract_of
from apps.platform_api.http.disconnect import ClientDisconnected
from apps.platform_api.http.errors import internal_error, note_and_render
from apps.platform_api.http.middleware.access_log import AccessLog, shown_method
from apps.platform_api.http.middleware.cors import ROUTE as PREFLIGHT
from apps.platform_api.http.middleware.cors import CorsPolicy
from apps.platform_api.http.middleware.response_headers import response_headers
from apps.platform_api.http.request_state import route_template
from apps.platform_api.server.state import ServerState
from platform_app.config import Network
from platform_app.credential_forms import id_may_hold_credential
from platform_app.errors import (
    Draining,
    LedgerUnavailable,
    Overloaded,
    PlatformError,
)
from platform_app.ledger.events.event import AccessDecision
from platform_app.ledger.events.hops_and_attempts import attempts_text, hops_text
from platform_app.ledger.interfaces import Ledger, NullLedger
from platform_app.observability import ids, metrics
from platform_app.observability.context import ClientContract, RequestContext, set_current_request
from platform_app.observability.logging import get_logger
from platform_app.observability.record import LEDGER, OK
from platform_app.observability.request.metrics import count_request
from platform_app.observability.tracing.kept_request import MAX_TEXT
from platform_app.observability.tracing.request_tracing import NO_EXPORT, RequestTracing
from platform_app.observability.tracing.trace_context import sole_traceparent

ACCESS_LINES_PER_ADDRESS = 60
"""Access lines of requests without a key, per minute: the default of PLATFORM_REFUSALS_PER_ADDRESS_PER_MINUTE."""
CLIENT_CLOSED = 499
"""The status that is recorded if the client disconnects first, as nginx does. It is never sent."""

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_PROBES = frozenset({"/healthz", "/livez", "/readyz"})
"""Load balancers call these every few seconds, without a key. They are not recorded in the ledger."""
_NEVER_REFUSED = _PROBES | {"/v1/meta"}
_NO_LEDGER = NullLedger()

_log = get_logger("access")


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds on one request and on one process."""

    body: BodyLimits
    body_budget: BodyBudget
    concurrent_requests: int
    trusted_proxies: Sequence[Network] = ()
    """Proxies whose X-Forwarded-For is trusted."""
    cors: CorsPolicy | None = None
    """Origins whose pages may call; None allows no origin."""


class RequestMiddleware:
    """Handles every HTTP request. Whatever happens inside, the response has its ids, and an access line is written."""

    def __init__(
        self,
        app: ASGIApp,
        state: ServerState,
        limits: RequestLimits,
        access_log: AccessLog | None = None,
        tracing: RequestTracing = NO_EXPORT,
    ) -> None:
        self._app = app
        self._tracing = tracing
        self._state = state
        self._limits = limits
        self._access_log = access_log or AccessLog(ACCESS_LINES_PER_ADDRESS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; pass lifespan and other scopes on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = _open_context(scope, self._limits.trusted_proxies, self._tracing)
        ledger = _ledger_of(scope)
        sender = _ResponseSender(scope, send, context, self._state, ledger, self._limits.cors)
        self._state.in_flight += 1
        metrics.HTTP_IN_FLIGHT.inc()
        body = BoundedRequestBody(scope, receive, self._limits.body, self._limits.body_budget)
        scope["state"]["body"] = body
        scope["state"]["send"] = sender.send
        try:
            self._refuse_early(scope, ledger)
            body.check_declared()
            if self._limits.cors is not None and await self._send_preflight(scope, context, sender):
                return
            await self._app(scope, body, sender.send)
        except (ClientDisconnected, ClientDisconnect):  # Starlette's: while the body was sent
            context.reason = "client_closed"
            sender.status = CLIENT_CLOSED
        except PlatformError as error:
            if isinstance(error, LedgerUnavailable):
                sender.ledger = _NO_LEDGER  # the ledger is full; a counter and the access line have it
            await self._send_error(error, context, sender, scope)
        except Exception:  # noqa: BLE001 - catch-all: always send a response
            # This is a bug. The client gets a 500 with the ids to quote, and the log gets the traceback.
            _log.exception("unhandled_error")
            await self._send_error(internal_error(), context, sender, scope)
        finally:
            body.release()
            # The sender refers to the scope, and the scope to the sender. Without this line every request would stay in
            # memory until a garbage collection, with what its connection has not sent.
            del scope["state"]["send"]
            self._state.in_flight -= 1
            metrics.HTTP_IN_FLIGHT.dec()
            sender.record()
            self._close_context(scope, context, sender)

    async def _send_preflight(self, scope: Scope, context: RequestContext, sender: "_ResponseSender") -> bool:
        """Send the response to a CORS preflight, which has no key. Return False for any other request."""
        cors = self._limits.cors
        assert cors is not None  # noqa: S101 - for mypy
        response = cors.preflight(scope) if scope["method"] == "OPTIONS" else None
        if response is None:
            return False
        context.route = PREFLIGHT
        await response(scope, _nothing_to_receive, sender.send)
        return True

    def _refuse_early(self, scope: Scope, ledger: Ledger) -> None:
        """Raise a PlatformError for a request that is refused before anything of it is read."""
        ledger.admit()
        if scope["path"] in _NEVER_REFUSED:
            return
        if self._state.draining:
            raise Draining("This instance is shutting down. Try again.", retry_after=1)
        if self._state.in_flight > self._limits.concurrent_requests:
            raise Overloaded("This instance is at its limit of concurrent requests. Try again.", retry_after=1)

    def _close_context(self, scope: Scope, context: RequestContext, sender: "_ResponseSender") -> None:
        """Turn the record of a finished request into metrics, its access line and, if it is kept, its trace."""
        ended = time.perf_counter()
        overhead = context.record.overhead(context.started, ended)
        count_request(context, sender.status, ended, overhead)
        if sender.event is not None:
            self._access_log.write(sender.event, context, ended, overhead)
        if scope["path"] not in _PROBES:
            self._tracing.end(context, sender.status, ended, overhead, partial(_describe_http, scope))

    async def _send_error(
        self, error: PlatformError, context: RequestContext, sender: "_ResponseSender", scope: Scope
    ) -> None:
        response = note_and_render(error, context)
        if not sender.started:
            await response(scope, _nothing_to_receive, sender.send)


class _ResponseSender:
    """ASGI's `send` for one response. It adds the headers of every response, notes the status, and records the access
    decision before the client can have the whole response."""

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
            if context.contract is ClientContract.ANTHROPIC:  # its clients read the id from this name alone
                headers.append((b"request-id", context.request_id.encode()))
            headers.append((b"traceparent", context.trace.traceparent.encode()))
            headers.extend(response_headers(context))
            if self._cors is not None:
                headers.extend(self._cors.headers(self._scope))
            _forbid_storing(headers)
            if self._server.draining and (b"connection", b"close") not in headers:
                # A persistent connection moves to another instance with its next request.
                headers.append((b"connection", b"close"))
            # Sent together with the body: a response without a body would be complete with its head.
            self._head = message
            return
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.record()
        if self._head is not None:
            head, self._head = self._head, None
            self.started = True
            self._context.record.first_byte = time.perf_counter()
            await self._send(head)
        await self._send(message)

    def record(self) -> None:
        """Append the access decision to the ledger, once per request."""
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
            owner=context.owner,
            model=context.model,
            hops=hops_text(context.record.hops, context.started),
            attempts=attempts_text(context.record.attempts, context.started),
        )
        began = time.perf_counter()
        self.ledger.append(self.event)
        context.record.hops.append((LEDGER, began, time.perf_counter(), OK))


def _forbid_storing(headers: list[tuple[bytes, bytes]]) -> None:
    """Forbid caches to store the response. Most responses belong to one key, which caches do not distinguish
    (X-API-Key); the others describe the current state."""
    for index, (name, value) in enumerate(headers):
        if name == b"cache-control":
            if b"no-store" not in value:
                headers[index] = (name, value + b", no-store")
            return
    headers.append((b"cache-control", b"no-store"))


def _open_context(scope: Scope, trusted_proxies: Sequence[Network], tracing: RequestTracing) -> RequestContext:
    context = RequestContext(
        request_id=_request_id(_header(scope, b"x-request-id")),
        trace=tracing.start(sole_traceparent(scope["headers"])),
        # A client can send any text as the method, and the method is stored.
        method=shown_method(scope["method"]),
        client_address=client_address(scope, trusted_proxies),
        started=time.perf_counter(),
        contract=contract_of(scope["path"], _header(scope, b"anthropic-version") is not None),
        content=tracing.content(),
    )
    scope.setdefault("state", {})["context"] = context
    set_current_request(context)
    return context


def _request_id(given: bytes | None) -> str:
    """Return the client's id if it is well-formed, else a new one.

    The id is stored and returned, so it must not contain a key.
    """
    if given is None or not _SANE_REQUEST_ID.fullmatch(given):
        return ids.request_id()
    if id_may_hold_credential(given):
        metrics.MISPLACED_CREDENTIALS.labels("x-request-id").inc()
        return ids.request_id()
    return given.decode()


def _ledger_of(scope: Scope) -> Ledger:
    """Return the ledger for this request."""
    if scope["path"] in _PROBES and scope["method"] in ("GET", "HEAD"):
        return _NO_LEDGER
    resources = scope["state"].get("resources")
    return resources.ledger if resources is not None else _NO_LEDGER  # None if the lifespan did not run


def _describe_http(scope: Scope) -> dict[str, Any]:
    """Return what a trace says about the client's request; texts are cut."""
    host, user_agent = _header(scope, b"host"), _header(scope, b"user-agent")
    return {
        "path": scope["path"][:MAX_TEXT],
        "scheme": scope["scheme"],
        "http_version": scope["http_version"],
        "host": None if host is None else host[:MAX_TEXT].decode("latin-1"),
        "user_agent": None if user_agent is None else user_agent[:MAX_TEXT].decode("latin-1"),
    }


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    for name, value in scope["headers"]:
        if name == wanted:
            found: bytes = value
            return found
    return None


async def _nothing_to_receive() -> Message:
    return {"type": "http.disconnect"}
