"""What FastAPI handlers take as parameters, as types: a signature says who may call a route and what the handler uses.

Routes that call a model read the same things directly (http/model/route.py).
"""

from typing import Annotated

from fastapi import Depends, Request

from apps.platform_api.http.request_state import context_of, resources_of
from apps.platform_api.security.guard import Guard, LimitedBy
from platform_app.auth.caller import Caller
from platform_app.auth.keys.records import Actor, ActorKey
from platform_app.auth.permissions import Scope
from platform_app.observability.context import RequestContext
from platform_app.resources import Resources


# Dependencies are coroutines: FastAPI runs plain functions in a thread, which costs more than the request.
async def _resources(request: Request) -> Resources:
    return resources_of(request)


async def _context(request: Request) -> RequestContext:
    return context_of(request)


ResourcesDep = Annotated[Resources, Depends(_resources)]
ContextDep = Annotated[RequestContext, Depends(_context)]
ChatCallerDep = Annotated[Caller, Depends(Guard(Scope.CHAT))]
"""May call chat models, and read what they stored for the same owner."""
ModelsReaderDep = Annotated[Caller, Depends(Guard(Scope.MODELS_READ))]
"""May read which models it may use."""
KeyReaderDep = Annotated[Caller, Depends(Guard(Scope.API_KEYS_READ))]
"""May read the keys of the same owner, never their secrets."""
KeyManagerDep = Annotated[Caller, Depends(Guard(Scope.API_KEYS_MANAGE))]
"""May create, change, rotate and revoke keys of the same owner that have no more permissions than itself."""
AnyKeyDep = Annotated[Caller, Depends(Guard(None, LimitedBy.NOTHING_CHARGED))]
"""Any key, which reads about itself."""
AuditReaderDep = Annotated[Caller, Depends(Guard(Scope.AUDIT_READ))]
"""May read the audit of the same owner's keys."""
UsageReaderDep = Annotated[Caller, Depends(Guard(None))]
"""Any key, which reads its own usage; with platform:usage:read that of the same owner's keys."""


def actor_of(caller: Caller, context: RequestContext) -> Actor:
    """Return the caller as the actor of a change, for the audit."""
    return Actor(
        name=f"key:{caller.key_id}",
        key=ActorKey(caller.key_id, caller.secret_created_at),
        request_id=context.request_id,
        trace_id=context.trace.trace_id,
        client_address=context.client_address,
    )
