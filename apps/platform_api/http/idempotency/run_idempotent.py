"""Run a route's work once per Idempotency-Key, and replay its response for the same key (docs/adr/0011).

This happens after the caller and the body are known, and before anything is charged. A replay counts as a request, and
its model must still be allowed. A request without the header passes through unchanged.
"""

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from fastapi import Request
from starlette.responses import Response

from apps.platform_api.http.disconnect import DisconnectSignal, cancel_on_disconnect, disconnect_signal
from apps.platform_api.http.errors import note_and_render
from apps.platform_api.http.idempotency.idempotent_work import KeyedWork, Outcome
from apps.platform_api.http.middleware.response_headers import provider_headers
from apps.platform_api.http.request_state import body_of, detached_work_of, keep_body_of, resources_of
from apps.platform_api.http.streaming import ByteStream
from apps.platform_api.openai.azure_paths import deployment_of
from platform_app.auth.caller import Caller
from platform_app.config.model_names import WILDCARD
from platform_app.errors import InvalidRequest, PlatformError, ValidationFailed
from platform_app.idempotency.service import HEADER
from platform_app.idempotency.store import Holder
from platform_app.idempotency.stored_response import StoredResponse
from platform_app.llm.requests import ModelRequest
from platform_app.observability.context import RequestContext
from platform_app.observability.record import IDEMPOTENCY, OK

REPLAYED = "idempotent_replay"
"""The reason of a replayed response in the access line and the access decision."""

Work = Callable[[DisconnectSignal], Awaitable[Response]]
"""A route's work for the client of this signal."""
_KEY = re.compile(r"[\x20-\x7e]{1,255}")


async def run_idempotent(
    request: Request,
    caller: Caller,
    context: RequestContext,
    wanted: ModelRequest,
    work: Work,
) -> Response:
    """Return the response of `work`, or the stored response if the request's key was used before.

    With a key the work continues when the client disconnects.

    Raises:
        PlatformError: as `work`, IdempotencyService.begin and ChatService.admit_replay.
        ClientDisconnected: the client disconnected first.
    """
    client = disconnect_signal(request.scope, request.receive)
    key = idempotency_key(request)
    if key is None:
        return await work(client)
    resources = resources_of(request)
    holder = Holder(caller.key_id, caller.owner)
    beginning = resources.idempotency.begin(holder, context.route, key, await _content(request))
    began = time.perf_counter()
    found = await cancel_on_disconnect(client, beginning)
    replayed = isinstance(found, StoredResponse)
    context.record.hops.append((IDEMPOTENCY, began, time.perf_counter(), REPLAYED if replayed else OK))
    if isinstance(found, StoredResponse):
        # The model of the stored response: a request without a model name may get another default model by now.
        same = replace(wanted, model=found.model or wanted.model)
        await resources.idempotency.replay(resources.chat.admit_replay(same, caller, context))
        context.reason = REPLAYED
        return _replay(found)
    if not found.protected:
        context.idempotency_unavailable = True
    keyed = KeyedWork(found, detached_work_of(request), partial(_outcome, context, work), keep_body_of(request))
    return await keyed.response(client)


def idempotency_key(request: Request) -> str | None:
    """Return the header's value, or None without the header. Raises ValidationFailed for a malformed key."""
    values = request.headers.getlist(HEADER)
    if not values:
        return None
    if len(set(values)) == 1 and _KEY.fullmatch(values[0]):
        return values[0]
    raise ValidationFailed(f"{HEADER}: expected 1 to 255 printable ASCII characters, once.", param=HEADER)


async def _content(request: Request) -> bytes:
    """Return what makes two requests equal: the body, and the model if the path names it. A JSON body cannot begin with
    this prefix."""
    body, deployment = await body_of(request), deployment_of(request.scope)
    return body if deployment is None else b"deployment %b\n%b" % (deployment.encode(errors="replace"), body)


async def _outcome(context: RequestContext, work: Work) -> Outcome:
    keep = True
    try:
        response = await work(DisconnectSignal())  # never set: KeyedWork decides what a disconnect means
    except PlatformError as error:
        response = note_and_render(error, context)
        keep = not isinstance(error, InvalidRequest)  # the gateway's refusal; a provider's is ProviderRejectedRequest
    if isinstance(response, ByteStream):
        return Outcome(response, _kept(response, context, b""))
    keep = keep and response.status_code != 429 and response.status_code < 500 and context.decision != "deny"
    return Outcome(response, _kept(response, context, bytes(response.body)), keep)


def _replay(stored: StoredResponse) -> Response:
    response = Response(stored.body, stored.status)
    headers = (*stored.headers, ("idempotency-replayed", "true"))
    response.raw_headers += [(name.encode(), value.encode()) for name, value in headers]
    return response


def _kept(response: Response, context: RequestContext, body: bytes) -> StoredResponse:
    # The called provider belongs to the stored response. The limits' state describes the moment and is not stored.
    headers = (*response.raw_headers, *provider_headers(context))
    kept = ((name.decode(), value.decode()) for name, value in headers if name != b"content-length")
    model = context.model
    if model is not None and WILDCARD in model:
        model = context.requested_model
    return StoredResponse(response.status_code, tuple(kept), body, model)
