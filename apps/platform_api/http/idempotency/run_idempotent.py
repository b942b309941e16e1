"""Idempotency-Key at a route: its work is done once for each key, and the answer given again (docs/adr/0011).

After the caller and the body are known and before anything is charged. A response that is given again counts as a
request, and its model must still be allowed. Without the header nothing happens here.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from fastapi import Request
from starlette.responses import Response

from apps.platform_api.http.disconnect import DisconnectSignal, cancel_on_disconnect, disconnect_signal
from apps.platform_api.http.errors import note_and_render
from apps.platform_api.http.idempotency.idempotent_work import KeyedWork, Outcome
from apps.platform_api.http.request_state import body_of, detached_work_of, keep_body_of, resources_of
from apps.platform_api.http.response_headers import provider_headers
from apps.platform_api.http.streaming import ByteStream
from apps.platform_api.openai.azure_paths import deployment_of
from platform_app.auth.caller import Caller
from platform_app.errors import InvalidRequest, PlatformError, ValidationFailed
from platform_app.idempotency.service import HEADER
from platform_app.idempotency.store import Holder
from platform_app.idempotency.stored_response import StoredResponse
from platform_app.llm.requests import ModelRequest
from platform_app.observability.context import RequestContext

REPLAYED = "idempotent_replay"
"""The reason in access line and access decision where an answer was given again."""

Work = Callable[[DisconnectSignal], Awaitable[Response]]
"""A route's work for the client of this signal."""
_KEY = re.compile(r"[\x20-\x7e]{1,255}")


async def run_idempotent(
    request: Request,
    caller: Caller,
    context: RequestContext,
    asked: ModelRequest,
    work: Work,
) -> Response:
    """The response of `work`, or where the request carries a key that was used before, the response of then.

    With a key the work goes on when the client leaves.

    Raises:
        PlatformError: what `work` raises, or IdempotencyService.begin, or ChatService.admit_replay.
        ClientDisconnected: the client left.
    """
    client = disconnect_signal(request.scope, request.receive)
    key = idempotency_key(request)
    if key is None:
        return await work(client)
    resources = resources_of(request)
    holder = Holder(caller.key_id, caller.owner)
    beginning = resources.idempotency.begin(holder, context.route, key, await _content(request))
    found = await cancel_on_disconnect(client, beginning)
    if isinstance(found, StoredResponse):
        # The model that the response came from: without a name in the request, the default may be another one by now.
        same = replace(asked, model=found.model or asked.model)
        await resources.idempotency.replay(resources.chat.admit_replay(same, caller, context))
        context.reason = REPLAYED
        return _replay(found)
    if not found.protected:
        context.idempotency_unavailable = True
    keyed = KeyedWork(found, detached_work_of(request), partial(_outcome, context, work), keep_body_of(request))
    return await keyed.response(client)


def idempotency_key(request: Request) -> str | None:
    """The header's value. Raises ValidationFailed where it is no key."""
    values = request.headers.getlist(HEADER)
    if not values:
        return None
    if len(set(values)) == 1 and _KEY.fullmatch(values[0]):
        return values[0]
    raise ValidationFailed(f"{HEADER}: expected 1 to 255 printable ASCII characters, once.", param=HEADER)


async def _content(request: Request) -> bytes:
    """What makes two requests the same: the body, and the model where the path names it. No body begins like that, for
    it has been read as JSON."""
    body, deployment = await body_of(request), deployment_of(request.scope)
    return body if deployment is None else b"deployment %b\n%b" % (deployment.encode(errors="replace"), body)


async def _outcome(context: RequestContext, work: Work) -> Outcome:
    keep = True
    try:
        response = await work(DisconnectSignal())  # never set: KeyedWork decides what a disconnect means
    except PlatformError as error:
        response = note_and_render(error, context)
        keep = not isinstance(error, InvalidRequest)  # our own refusal; a provider's is ProviderRejectedRequest
    if isinstance(response, ByteStream):
        return Outcome(response, _kept(response, context, b""))
    keep = keep and response.status_code != 429 and response.status_code < 500 and context.decision != "deny"
    return Outcome(response, _kept(response, context, bytes(response.body)), keep)


def _replay(answer: StoredResponse) -> Response:
    response = Response(answer.body, answer.status)
    headers = (*answer.headers, ("idempotency-replayed", "true"))
    response.raw_headers += [(name.encode(), value.encode()) for name, value in headers]
    return response


def _kept(response: Response, context: RequestContext, body: bytes) -> StoredResponse:
    # Who answered belongs to the stored response; the limits' state belongs to the moment and is not stored.
    headers = (*response.raw_headers, *provider_headers(context))
    kept = ((name.decode(), value.decode()) for name, value in headers if name != b"content-length")
    return StoredResponse(response.status_code, tuple(kept), body, context.model)
