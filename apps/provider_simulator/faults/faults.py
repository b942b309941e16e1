"""How each fault misbehaves, over a real connection.

Every behaviour takes an `Exchange` and returns the response, written or not; the server writes the rest. A behaviour
that must cut the connection raises `DroppedError`. One that waits is cancelled when the client disconnects.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import quote

from aiohttp import web

from apps.provider_simulator.faults.catalog import FAULTS
from apps.provider_simulator.faults.odd_usage import events_with_odd_usage, with_odd_usage
from apps.provider_simulator.faults.oddities import ANSWERS, FAILURE_IN_200, REFUSALS
from apps.provider_simulator.formats.wire import JSON_TYPE, Pouring, Problem, Wire, headers_of
from apps.provider_simulator.model.simulated_model import Answer

REDIRECTED_PATH = "/_sim/redirected"
STREAM_TYPE = "text/event-stream; charset=utf-8"
_BLOCK = b"a" * 64 * 1024
_MIB = 1024 * 1024
_HTML = b"<html><head><title>%b</title></head><body><center><h1>%b</h1></center></body></html>\n"


class DroppedError(Exception):
    """The server must abort the connection now."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request to misbehave on. `value` is the fault's parameter; `attempt` counts requests for `flaky`."""

    wire: Wire
    request: web.BaseRequest
    request_id: str
    fault: str
    value: float
    model: str
    key: str
    stream: bool
    answer: Answer
    attempt: Callable[[], int]


async def misbehave(exchange: Exchange) -> web.StreamResponse:
    """Run the exchange's fault.

    Raises:
        DroppedError: the caller must abort the connection.
    """
    return await _BEHAVIOURS[exchange.fault](exchange)


async def _refuse(x: Exchange) -> web.StreamResponse:
    problem = Problem(x.fault, model=x.model, key=x.key, value=x.value)
    return x.wire.refusal(problem).response(x.request_id)


async def _ok(x: Exchange) -> web.StreamResponse:
    if not x.stream:
        return web.Response(body=x.answer.json(), headers=headers_of(x.request_id, JSON_TYPE))
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
        return await _stream_of(x, x.wire.stream_of(broken))
    return web.Response(body=broken, headers=headers_of(x.request_id, JSON_TYPE))


async def _wrong_shape(x: Exchange) -> web.StreamResponse:
    body = b'{"hello": "world"}'
    if x.stream:
        return await _stream_of(x, x.wire.stream_of(body))
    return web.Response(body=body, headers=headers_of(x.request_id, JSON_TYPE))


async def _huge_body(x: Exchange) -> web.StreamResponse:
    response = await _started(x)
    pouring = x.wire.pouring_events(x.model, _BLOCK) if x.stream else x.wire.pouring_json(_BLOCK)
    await _poured(response, pouring, x.value)
    await response.write(pouring.tail)
    return response


async def _huge_line(x: Exchange) -> web.StreamResponse:
    if not x.stream:
        return await _huge_body(x)
    await _poured(await _started(x), x.wire.pouring_line(_BLOCK), x.value)
    raise DroppedError


async def _stream_error(x: Exchange) -> web.StreamResponse:
    if not x.stream:
        return web.Response(body=x.wire.error_json(), headers=headers_of(x.request_id, JSON_TYPE))
    return await _stream_of(x, (*_good_parts(x)[0], x.wire.error_event()))


async def _stream_truncated(x: Exchange) -> web.StreamResponse:
    return await _stream_of(x, _good_parts(x)[0])


async def _stream_failed(x: Exchange) -> web.StreamResponse:
    if not x.stream:
        return web.Response(body=x.wire.failed_json(x.answer.json()), headers=headers_of(x.request_id, JSON_TYPE))
    return await _stream_of(x, (*_good_parts(x)[0], x.wire.failed_event(x.answer.json())))


async def _stream_malformed(x: Exchange) -> web.StreamResponse:
    if not x.stream:
        return await _malformed_json(x)
    good = _good_parts(x)[0]
    return await _stream_of(x, (*good, b'data: {"id": "broken", {,\n\n', *x.answer.events()[len(good) :]))


async def _flaky(x: Exchange) -> web.StreamResponse:
    return await (_refuse(x) if x.attempt() <= x.value else _ok(x))


async def _odd_usage(x: Exchange) -> web.StreamResponse:
    if not x.stream:
        body = with_odd_usage(x.answer.json(), x.value)
        return web.Response(body=body, headers=headers_of(x.request_id, JSON_TYPE))
    return await _stream_of(x, events_with_odd_usage(x.answer.events(), x.value))


async def _redirect(x: Exchange) -> web.StreamResponse:
    headers = headers_of(x.request_id, JSON_TYPE)
    headers["Location"] = f"{REDIRECTED_PATH}{x.request.path}?model={quote(x.model, safe='')}"
    return web.Response(status=302, body=b"{}", headers=headers)


async def _refuse_oddly(x: Exchange) -> web.StreamResponse:
    refusal = REFUSALS[x.fault]
    headers = headers_of(x.request_id, refusal.content_type)
    return web.Response(status=refusal.status, body=refusal.body, headers=headers)


async def _answer_oddly(x: Exchange) -> web.StreamResponse:
    odd, wire = ANSWERS[x.fault], x.wire.name
    if x.stream:
        return await _stream_of(x, odd.events(x.answer, wire))
    return web.Response(body=odd.body(x.answer, wire), headers=headers_of(x.request_id, JSON_TYPE))


async def _failure_in_200(x: Exchange) -> web.StreamResponse:
    return web.Response(body=FAILURE_IN_200, headers=headers_of(x.request_id, JSON_TYPE))


async def _odd_type(x: Exchange) -> web.StreamResponse:
    body = b"".join(x.answer.events()) if x.stream else x.answer.json()
    return web.Response(body=body, headers=headers_of(x.request_id, "application/octet-stream"))


async def _always_stream(x: Exchange) -> web.StreamResponse:
    events = x.answer.events()
    if not events:  # embeddings are never streamed
        return await _ok(x)
    return web.Response(body=b"".join(events), headers=headers_of(x.request_id, STREAM_TYPE))


async def _never_stream(x: Exchange) -> web.StreamResponse:
    return web.Response(body=x.answer.json(), headers=headers_of(x.request_id, JSON_TYPE))


Behaviour = Callable[[Exchange], Awaitable[web.StreamResponse]]
_BEHAVIOURS: Mapping[str, Behaviour] = {
    # A fault without its own behaviour is an error status.
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
    "stream-failed": _stream_failed,
    "stream-malformed": _stream_malformed,
    "flaky": _flaky,
    "odd-usage": _odd_usage,
    "redirect": _redirect,
    **dict.fromkeys(REFUSALS, _refuse_oddly),
    **dict.fromkeys(ANSWERS, _answer_oddly),
    "failure-in-200": _failure_in_200,
    "odd-type": _odd_type,
    "always-stream": _always_stream,
    "never-stream": _never_stream,
}


def _html(x: Exchange, status: int, title: bytes) -> web.Response:
    headers = headers_of(x.request_id, "text/html; charset=utf-8")
    return web.Response(status=status, body=_HTML % (title, title), headers=headers)


async def _started(x: Exchange, content_length: int | None = None) -> web.StreamResponse:
    """Send the headers of a response and return it. Its body is chunked unless a length is given."""
    content_type = STREAM_TYPE if x.stream else JSON_TYPE
    response = web.StreamResponse(headers=headers_of(x.request_id, content_type))
    response.content_length = content_length
    await response.prepare(x.request)
    return response


async def _stream_of(x: Exchange, parts: Iterable[bytes]) -> web.StreamResponse:
    response = await _started(x)
    for part in parts:
        await response.write(part)
    return response


def _good_parts(x: Exchange) -> tuple[list[bytes], bytes]:
    """Return what is sent before the fault, and the part in which the fault occurs.

    For a stream: the requested number of chunks, after those without text, but neither the last chunk with text nor
    what follows it. For JSON: half of the body.
    """
    if not x.stream:
        body = x.answer.json()
        return [body[: len(body) // 2]], body[len(body) // 2 :]
    events = x.answer.events()
    count = max(1, min(x.answer.before_text + int(x.value), len(events) - x.answer.after_text))
    return events[:count], events[count]


def _eighths(body: bytes) -> list[bytes]:
    size = -(-len(body) // 8)
    return [body[at : at + size] for at in range(0, len(body), size)]


async def _poured(response: web.StreamResponse, pouring: Pouring, mebibytes: float) -> None:
    """Write the same block repeatedly, so that memory holds one block and the socket's buffer."""
    await response.write(pouring.head)
    for _ in range(math.ceil(mebibytes * _MIB / len(pouring.block))):
        await response.write(pouring.block)
        # A client that reads as fast as this writes must not starve every other connection.
        await asyncio.sleep(0)


async def _flushed(request: web.BaseRequest) -> None:
    """Wait until the kernel has the written bytes, because aborting a transport discards its buffer."""
    while True:
        await asyncio.sleep(0.001)
        if request.transport is None or not request.transport.get_write_buffer_size():
            return


async def _silence() -> NoReturn:
    """Wait until cancelled, which happens when the client disconnects or the simulator stops."""
    while True:
        await asyncio.get_running_loop().create_future()
