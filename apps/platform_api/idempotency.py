"""Idempotency-Key at a route: its work is done once for each key, and the answer given again (docs/adr/0011).

After the caller and the body are known and before anything is charged. A response that is given again counts as a
request, and its model must still be allowed. Without the header nothing happens here.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

from fastapi import Request
from starlette.responses import Response

from apps.platform_api.azure_paths import deployment_of
from apps.platform_api.byte_stream import ByteStream, Pieces
from apps.platform_api.dependencies import body_of, resources_of
from apps.platform_api.errors import render
from platform_app.auth.caller import Caller
from platform_app.errors import InvalidRequest, PlatformError, ValidationFailed
from platform_app.idempotency.answer import KeptAnswer
from platform_app.idempotency.attempt import Attempt
from platform_app.idempotency.base import Holder
from platform_app.idempotency.keeper import HEADER
from platform_app.llm.calls import ModelRequest
from platform_app.observability.context import RequestContext

REPLAYED = "idempotent_replay"
"""The reason in access line and access decision where an answer was given again."""

_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_ENDINGS = (b"event: done\n", b"data: [DONE]\n")
"""How the last event of a complete stream begins."""
_KEPT_PREFIX = "x-platform-"
"""Of the headers that the context adds to an answer, those that say how it came about; limits are of the moment."""


async def once_per_key(
    request: Request,
    caller: Caller,
    context: RequestContext,
    asked: ModelRequest,
    work: Callable[[], Awaitable[Response]],
) -> Response:
    """The answer of `work`, or where the request carries a key that was used before, the answer of then.

    Raises:
        PlatformError: what `work` raises, or IdempotencyKeeper.begin, or ChatService.admit_replay.
    """
    key = idempotency_key(request)
    if key is None:
        return await work()
    resources = resources_of(request)
    holder = Holder(caller.key_id, caller.owner)
    found = await resources.idempotency.begin(holder, context.route, key, await _content(request))
    if isinstance(found, KeptAnswer):
        # The model that the response came from: without a name in the request, the default may be another one by now.
        same = replace(asked, model=found.model or asked.model)
        await resources.idempotency.replay(resources.chat.admit_replay(same, caller, context))
        context.reason = REPLAYED
        return _replay(found)
    if not found.protected:
        context.response_headers["idempotency-unavailable"] = "true"
    try:
        return await _attempt(found, context, work)
    except BaseException:  # the client left, a shutdown, a bug: whoever comes back works for real
        await found.release()
        raise


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


async def _attempt(attempt: Attempt, context: RequestContext, work: Callable[[], Awaitable[Response]]) -> Response:
    done = True
    try:
        response = await work()
    except PlatformError as error:
        response = render(error, context)
        done = not isinstance(error, InvalidRequest)  # our own refusal; a provider's is ProviderRejectedRequest
    if isinstance(response, ByteStream):
        recorder = _Recorder(response.pieces, attempt, _kept(response, context, b""))
        await recorder.take(response.first)
        response.pieces = recorder
    elif not done or response.status_code == 429 or response.status_code >= 500 or context.decision == "deny":
        await attempt.release()
    else:
        await attempt.finish(_kept(response, context, bytes(response.body)))
    return response


def _replay(answer: KeptAnswer) -> Response:
    response = Response(answer.body, answer.status)
    headers = (*answer.headers, ("idempotency-replayed", "true"))
    response.raw_headers += [(name.encode(), value.encode()) for name, value in headers]
    return response


def _kept(response: Response, context: RequestContext, body: bytes) -> KeptAnswer:
    own = ((name.decode(), value.decode()) for name, value in response.raw_headers if name != b"content-length")
    added = (item for item in context.response_headers.items() if item[0].startswith(_KEPT_PREFIX))
    return KeptAnswer(response.status_code, (*own, *added), body, context.model)


class _Recorder:
    """The pieces of a stream on their way to the client. The last one of a complete stream leaves only after the answer
    is kept; a stream that ends without it, however that comes, frees the key."""

    def __init__(self, pieces: Pieces, attempt: Attempt, head: KeptAnswer) -> None:
        self._pieces = pieces
        self._attempt = attempt
        self._head = head
        self._body = bytearray()
        self._overflowed = False

    async def take(self, piece: bytes) -> None:
        """Look at a piece that is about to be sent."""
        if not self._overflowed:
            self._body += piece
            if len(self._body) > self._attempt.max_bytes:
                self._overflowed = True  # one byte too many is enough to say so; the rest is not collected
                del self._body[self._attempt.max_bytes + 1 :]
        if piece.startswith(_ENDINGS):
            await self._attempt.finish(replace(self._head, body=bytes(self._body)))

    def __aiter__(self) -> "_Recorder":
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        await self.take(piece)
        return piece

    async def aclose(self) -> None:
        """Close the source first: the provider is told at once."""
        try:
            await self._pieces.aclose()
        finally:
            await self._attempt.release()
