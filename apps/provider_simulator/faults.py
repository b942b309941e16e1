"""How each fault misbehaves, over a real connection.

Every behaviour takes an `Exchange` and returns the response, written or not; the server writes what is left.
One that must cut the connection raises `DroppedError`; one that waits relies on being cancelled when the client
leaves.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import quote

from aiohttp import web

from apps.provider_simulator.answers import DONE_EVENT, Answer, error_body, sse_event
from apps.provider_simulator.catalog import FAULTS

REDIRECTED_PATH = "/_sim/redirected"
JSON_TYPE = "application/json"
STREAM_TYPE = "text/event-stream; charset=utf-8"
_BLOCK = b"a" * 64 * 1024
_MIB = 1024 * 1024
_HTML = b"<html><head><title>%b</title></head><body><center><h1>%b</h1></center></body></html>\n"


class DroppedError(Exception):
    """The connection is to be aborted now."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request to misbehave on. `value` is the fault's parameter; `attempt` counts requests for `flaky`."""

    request: web.BaseRequest
    request_id: str
    fault: str
    value: float
    model: str
    key: str
    stream: bool
    answer: Answer
    attempt: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer in OpenAI's error shape. `retry_after` is in seconds."""

    status: int
    kind: str
    message: str
    param: str | None = None
    code: str | None = None
    retry_after: float | None = None

    def response(self, request_id: str) -> web.Response:
        """The refusal as a response, not yet written."""
        headers = _headers(request_id, JSON_TYPE)
        if self.retry_after is not None:
            headers["Retry-After"] = f"{self.retry_after:g}"
        body = error_body(self.message, self.kind, self.param, self.code)
        return web.Response(status=self.status, body=body, headers=headers)


def wrong_key(key: str) -> Refusal:
    """OpenAI's 401, whose message repeats part of the key: gateways must not pass it on."""
    masked = f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}" if len(key) > 16 else f"{key[:2]}{'*' * 6}"
    message = (
        f"Incorrect API key provided: {masked}. "
        "You can find your API key at https://platform.openai.com/account/api-keys."
    )
    return Refusal(401, "invalid_request_error", message, code="invalid_api_key")


def unknown_model(model: str) -> Refusal:
    """OpenAI's 404 for a model it does not know."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Refusal(404, "invalid_request_error", message, code="model_not_found")


async def misbehave(exchange: Exchange) -> web.StreamResponse:
    """Acts out the exchange's fault.

    Raises:
        DroppedError: the caller must abort the connection.
    """
    return await _BEHAVIOURS[exchange.fault](exchange)


def _refusal(x: Exchange) -> Refusal:
    """The catalog's plain error statuses."""
    match x.fault:
        case "bad-request":
            message = "Invalid value for 'temperature': expected at most 2."
            return Refusal(400, "invalid_request_error", message, "temperature", "invalid_value")
        case "context-length":
            message = (
                "This model's maximum context length is 128000 tokens. However, your messages resulted in "
                "130000 tokens. Please reduce the length of the messages."
            )
            return Refusal(400, "invalid_request_error", message, "messages", "context_length_exceeded")
        case "content-filter":
            message = "The response was filtered due to the prompt triggering the content management policy."
            return Refusal(400, "invalid_request_error", message, "prompt", "content_filter")
        case "unauthorized":
            return wrong_key(x.key)
        case "forbidden":
            message = f"Project `proj_sim` does not have access to model `{x.model}`."
            return Refusal(403, "invalid_request_error", message, code="permission_denied")
        case "not-found":
            return unknown_model(x.model)
        case "rate-limited":
            message = f"Rate limit reached for {x.model}: please try again in {x.value:g}s."
            return Refusal(429, "requests", message, code="rate_limit_exceeded", retry_after=x.value)
        case "quota":
            message = "You exceeded your current quota, please check your plan and billing details."
            return Refusal(429, "insufficient_quota", message, code="insufficient_quota")
        case "overloaded":
            message = "The model is currently overloaded with other requests. Please try again later."
            return Refusal(503, "server_error", message, code="server_is_overloaded", retry_after=x.value)
        case _:
            message = "The server had an error while processing your request. Sorry about that!"
            return Refusal(500, "server_error", message)


async def _refuse(x: Exchange) -> web.StreamResponse:
    return _refusal(x).response(x.request_id)


async def _ok(x: Exchange) -> web.StreamResponse:
    if not x.stream:
        return web.Response(body=x.answer.json(), headers=_headers(x.request_id, JSON_TYPE))
    response = await _started(x)
    for event in x.answer.events():
        await response.write(event)
    return response


async def _delay(x: Exchange) -> web.StreamResponse:
    await asyncio.sleep(x.value / 1000)
    return await _ok(x)


async def _slow_first_token(x: Exchange) -> web.StreamResponse:
    if not x.stream:
        return await _delay(x)
    response = await _started(x)
    await asyncio.sleep(x.value / 1000)
    for event in x.answer.events():
        await response.write(event)
    return response


async def _slow_stream(x: Exchange) -> web.StreamResponse:
    response = await _started(x)
    for index, part in enumerate(x.answer.events() if x.stream else _eighths(x.answer.json())):
        if index:
            await asyncio.sleep(x.value / 1000)
        await response.write(part)
    return response


async def _bad_gateway_html(x: Exchange) -> web.StreamResponse:
    return _html(x, 502, b"502 Bad Gateway")


async def _wrong_content_type(x: Exchange) -> web.StreamResponse:
    return _html(x, 200, b"Welcome")


async def _drop(x: Exchange) -> NoReturn:
    raise DroppedError


async def _drop_mid_body(x: Exchange) -> NoReturn:
    body = b"".join(x.answer.events()) if x.stream else x.answer.json()
    response = await _started(x, content_length=len(body))
    await response.write(body[: len(body) // 2])
    await _flushed(x.request)
    raise DroppedError


async def _stream_drop(x: Exchange) -> NoReturn:
    response = await _started(x)
    good, unsent = _good_parts(x)
    for part in good:
        await response.write(part)
    if x.stream:
        await response.write(unsent[: len(unsent) // 2])
    await _flushed(x.request)
    raise DroppedError


async def _stream_hang(x: Exchange) -> NoReturn:
    response = await _started(x)
    for part in _good_parts(x)[0]:
        await response.write(part)
    await _silence()


async def _hang(x: Exchange) -> NoReturn:
    await _silence()


async def _malformed_json(x: Exchange) -> web.StreamResponse:
    broken = x.answer.json()[:-10] + b'", {,'
    if x.stream:
        return await _stream_of(x, (b"data: " + broken + b"\n\n", DONE_EVENT))
    return web.Response(body=broken, headers=_headers(x.request_id, JSON_TYPE))


async def _wrong_shape(x: Exchange) -> web.StreamResponse:
    if x.stream:
        return await _stream_of(x, (sse_event({"hello": "world"}), DONE_EVENT))
    return web.Response(body=b'{"hello": "world"}', headers=_headers(x.request_id, JSON_TYPE))


async def _huge_body(x: Exchange) -> web.StreamResponse:
    response = await _started(x)
    if x.stream:
        delta = {"index": 0, "delta": {"content": _BLOCK.decode()}, "logprobs": None, "finish_reason": None}
        head = {"id": "chatcmpl-huge", "object": "chat.completion.chunk", "created": 0, "model": x.model}
        await _poured(response, sse_event({**head, "choices": [delta]}), x.value)
        return response
    await response.write(
        b'{"id":"chatcmpl-huge","object":"chat.completion","created":0,"model":"huge","choices":[{"index":0,'
        b'"finish_reason":"stop","logprobs":null,"message":{"role":"assistant","refusal":null,"content":"'
    )
    await _poured(response, _BLOCK, x.value)
    await response.write(b'"}}]}')
    return response


async def _huge_line(x: Exchange) -> web.StreamResponse:
    if not x.stream:
        return await _huge_body(x)
    response = await _started(x)
    await response.write(b'data: {"id":"chatcmpl-huge","choices":[{"index":0,"delta":{"content":"')
    await _poured(response, _BLOCK, x.value)
    raise DroppedError


async def _stream_error(x: Exchange) -> web.StreamResponse:
    message = "The server had an error processing your request. Sorry about that!"
    error = error_body(message, "server_error")
    if not x.stream:
        return web.Response(body=error, headers=_headers(x.request_id, JSON_TYPE))
    return await _stream_of(x, (*_good_parts(x)[0], b"data: " + error + b"\n\n"))


async def _stream_truncated(x: Exchange) -> web.StreamResponse:
    return await _stream_of(x, _good_parts(x)[0])


async def _flaky(x: Exchange) -> web.StreamResponse:
    return await (_refuse(x) if x.attempt() <= x.value else _ok(x))


async def _redirect(x: Exchange) -> web.StreamResponse:
    headers = _headers(x.request_id, JSON_TYPE)
    headers["Location"] = f"{REDIRECTED_PATH}{x.request.path}?model={quote(x.model, safe='')}"
    return web.Response(status=302, body=b"{}", headers=headers)


Behaviour = Callable[[Exchange], Awaitable[web.StreamResponse]]
_BEHAVIOURS: Mapping[str, Behaviour] = {
    # Whatever has no behaviour of its own is an error status.
    **dict.fromkeys(FAULTS, _refuse),
    "ok": _ok,
    "delay": _delay,
    "slow-first-token": _slow_first_token,
    "slow-stream": _slow_stream,
    "bad-gateway-html": _bad_gateway_html,
    "wrong-content-type": _wrong_content_type,
    "drop": _drop,
    "refused": _drop,
    "drop-mid-body": _drop_mid_body,
    "stream-drop": _stream_drop,
    "stream-hang": _stream_hang,
    "hang": _hang,
    "malformed-json": _malformed_json,
    "wrong-shape": _wrong_shape,
    "huge-body": _huge_body,
    "huge-line": _huge_line,
    "stream-error": _stream_error,
    "stream-truncated": _stream_truncated,
    "flaky": _flaky,
    "redirect": _redirect,
}


def _headers(request_id: str, content_type: str) -> dict[str, str]:
    return {"Content-Type": content_type, "x-request-id": request_id}


def _html(x: Exchange, status: int, title: bytes) -> web.Response:
    headers = _headers(x.request_id, "text/html; charset=utf-8")
    return web.Response(status=status, body=_HTML % (title, title), headers=headers)


async def _started(x: Exchange, content_length: int | None = None) -> web.StreamResponse:
    """A response whose headers are on their way; its body is chunked unless the length is promised."""
    content_type = STREAM_TYPE if x.stream else JSON_TYPE
    response = web.StreamResponse(headers=_headers(x.request_id, content_type))
    response.content_length = content_length
    await response.prepare(x.request)
    return response


async def _stream_of(x: Exchange, parts: Iterable[bytes]) -> web.StreamResponse:
    response = await _started(x)
    for part in parts:
        await response.write(part)
    return response


def _good_parts(x: Exchange) -> tuple[list[bytes], bytes]:
    """What to send before the fault strikes, and the part it would strike in.

    For a stream as many chunks as asked for, but never the last chunk of text or what follows; for JSON half of
    the body.
    """
    if not x.stream:
        body = x.answer.json()
        return [body[: len(body) // 2]], body[len(body) // 2 :]
    events = x.answer.events()
    count = max(1, min(int(x.value), len(events) - 3))
    return events[:count], events[count]


def _eighths(body: bytes) -> list[bytes]:
    size = -(-len(body) // 8)
    return [body[at : at + size] for at in range(0, len(body), size)]


async def _poured(response: web.StreamResponse, block: bytes, mebibytes: float) -> None:
    """Writes the same block over and over: what is in memory is one block and the socket's buffer."""
    for _ in range(math.ceil(mebibytes * _MIB / len(block))):
        await response.write(block)
        # A client that reads as fast as this writes must not starve every other connection.
        await asyncio.sleep(0)


async def _flushed(request: web.BaseRequest) -> None:
    """Waits until the kernel has what was written: aborting a transport discards its buffer."""
    while True:
        await asyncio.sleep(0.001)
        if request.transport is None or not request.transport.get_write_buffer_size():
            return


async def _silence() -> NoReturn:
    """Waits until cancelled, which happens when the client leaves or the simulator stops."""
    while True:
        await asyncio.get_running_loop().create_future()
