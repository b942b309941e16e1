"""What handlers ask for, as types: a handler's signature says who may call it and what it uses.

The only reader of request state.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.types import Send

from apps.platform_api.http.body.json_text import TextFacts
from apps.platform_api.http.body.request_body import BoundedRequestBody
from apps.platform_api.http.idempotency.detached_work import DetachedWork
from apps.platform_api.http.query_parameters import refuse_unknown_parameters
from apps.platform_api.security.credentials import credentials
from apps.platform_api.server.state import ServerState
from platform_app.auth.caller import Caller
from platform_app.auth.keys.records import Actor, ActorKey
from platform_app.auth.permissions import Scope
from platform_app.chat import ChatService
from platform_app.errors import InsufficientScope
from platform_app.observability.context import RequestContext
from platform_app.rate_limit.matching import LimitedRequest
from platform_app.resources import Resources


class LimitedBy(StrEnum):
    """Who asks the limiter for a guarded route; there is no third way."""

    GUARD = "guard"
    """The guard itself, before the handler runs."""
    CHAT_SERVICE = "chat service"
    """ChatService, which knows the model too, so that all rules cost one round trip."""
    NOTHING_CHARGED = "the handler, which charges nothing"
    """The answer itself is what the limiter says. It costs as much as a refusal, which is not charged either, and a
    caller whose limit is used up can see so."""


class Guard:
    """A dependency: the caller of this request, who holds the scope. Routes without one do not start."""

    def __init__(self, scope: Scope | None, limited_by: LimitedBy = LimitedBy.GUARD) -> None:
        """`scope` None: every key may; only for what guards.ANY_KEY lists."""
        self.scope = scope
        self.limited_by = limited_by

    async def __call__(self, request: Request) -> Caller:
        """Authenticate, check the scope, and charge the route's rules where the handler's service does not."""
        resources, context = resources_of(request), context_of(request)
        context.route = route_template(request.scope)
        caller = await resources.authenticator.authenticate(credentials(request.scope), context.client_address)
        context.key_id = caller.key_id
        if self.scope is not None and not caller.may(self.scope):
            raise InsufficientScope(self.scope)
        if request.scope["query_string"]:
            refuse_unknown_parameters(request.scope, openai=context.openai)
        if self.limited_by is LimitedBy.GUARD:
            await resources.limits.charge(_usage(caller, context), context)
        elif self.limited_by is LimitedBy.CHAT_SERVICE and resources.limits.known_denials:
            # Before the body is read: a refusal must cost less than what it refuses.
            resources.limits.refuse_known(_usage(caller, context), context)
        return caller


def _usage(caller: Caller, context: RequestContext) -> LimitedRequest:
    return LimitedRequest(caller.key_id, caller.owner, context.route, limits=caller.limits)


def route_template(scope: Any) -> str:
    """The path template of the matched route, for labels and rules; never the path that the client typed."""
    route = scope.get("route")
    # `path_format` leaves converters out: /v1/models/{model}.
    return getattr(route, "path_format", None) or "unmatched"


def context_of(request: Request) -> RequestContext:
    """What the middleware noted about this request so far."""
    context: RequestContext = request.scope["state"]["context"]
    return context


async def body_of(request: Request) -> bytes:
    """The whole body, the same however often it is asked for; bounded by the middleware, and counted for the caller."""
    state = request.scope.get("state", {})
    body: BoundedRequestBody | None = state.get("body")  # none: without the middleware
    return await (body.read(state["context"].key_id) if body is not None else request.body())


def body_facts_of(request: Request) -> TextFacts | None:
    """What is known of the text of a large body that has been read; None of others."""
    body: BoundedRequestBody | None = request.scope.get("state", {}).get("body")
    return body.facts if body is not None else None


def send_of(request: Request) -> Send:
    """What sends to this request's client, for a handler that must send before it returns."""
    send: Send = request.scope["state"]["send"]
    return send


def keep_alive_seconds_of(request: Request) -> float:
    """How long a stream may be silent before a comment is sent."""
    return resources_of(request).settings.stream_keep_alive_seconds


def resources_of(request: Request) -> Resources:
    """What the lifespan opened."""
    resources: Resources = request.scope["state"]["resources"]
    return resources


def server_state_of(request: Request) -> ServerState:
    """What this process says about itself."""
    state: ServerState = request.scope["state"]["server"]
    return state


def detached_work_of(request: Request) -> DetachedWork:
    """Where work that may outlive its client is started."""
    detached: DetachedWork = request.scope["state"]["detached"]
    return detached


def keep_body_of(request: Request) -> Callable[[], Callable[[], None]]:
    """Counts the request's body on after its end; see BoundedRequestBody.keep."""
    body: BoundedRequestBody | None = request.scope.get("state", {}).get("body")
    return body.keep if body is not None else lambda: lambda: None


# Dependencies are coroutines: FastAPI sends plain functions to a thread each, which costs more than the request.
async def _resources(request: Request) -> Resources:
    return resources_of(request)


async def _context(request: Request) -> RequestContext:
    return context_of(request)


async def _chat_service(request: Request) -> ChatService:
    return resources_of(request).chat


ResourcesDep = Annotated[Resources, Depends(_resources)]
ContextDep = Annotated[RequestContext, Depends(_context)]
ChatServiceDep = Annotated[ChatService, Depends(_chat_service)]
CallerDep = Annotated[Caller, Depends(Guard(Scope.CHAT, LimitedBy.CHAT_SERVICE))]
"""The caller of a chat request: holds platform:chat, and is limited by the chat service."""

EmbeddingsCallerDep = Annotated[Caller, Depends(Guard(Scope.EMBEDDINGS, LimitedBy.CHAT_SERVICE))]
"""The caller of an embeddings request, limited by the chat service too."""
ModelsReaderDep = Annotated[Caller, Depends(Guard(Scope.MODELS_READ))]
"""May see which models it may use."""
KeyReaderDep = Annotated[Caller, Depends(Guard(Scope.API_KEYS_READ))]
"""May see keys of its own owner, never their secrets."""
KeyManagerDep = Annotated[Caller, Depends(Guard(Scope.API_KEYS_MANAGE))]
"""May create, change, rotate and revoke keys of its own owner that hold no more than itself."""
AnyKeyDep = Annotated[Caller, Depends(Guard(None, LimitedBy.NOTHING_CHARGED))]
"""Any key, about itself."""
AuditReaderDep = Annotated[Caller, Depends(Guard(Scope.AUDIT_READ))]
"""May read who did what with its own owner's keys."""
UsageReaderDep = Annotated[Caller, Depends(Guard(None))]
"""Any key, about its own usage; with platform:usage:read about that of its own owner's keys. Limited by the guard."""


def actor_of(caller: Caller, context: RequestContext) -> Actor:
    """The caller as the one who makes a change, for the audit."""
    return Actor(
        name=f"key:{caller.key_id}",
        key=ActorKey(caller.key_id, caller.secret_created_at),
        request_id=context.request_id,
        trace_id=context.trace.trace_id,
        client_address=context.client_address,
    )
