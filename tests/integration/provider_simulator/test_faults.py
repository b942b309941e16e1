"""Every fault of the simulator over real sockets."""

import asyncio
import contextlib
import json
import socket
import time
from typing import Any

import aiohttp
import httpx
import openai
import orjson
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.support.gateway.http import until
from tests.support.providers.simulator_requests import AUTH, KEY, ask, chat, collect, data_lines, raw_request
from tests.support.timing.responsive_time import responsive_time

# --- faults: statuses


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "kind", "code", "error"),
    [
        ("bad-request", 400, "invalid_request_error", "invalid_value", openai.BadRequestError),
        ("context-length", 400, "invalid_request_error", "context_length_exceeded", openai.BadRequestError),
        ("content-filter", 400, "invalid_request_error", "content_filter", openai.BadRequestError),
        ("unauthorized", 401, "invalid_request_error", "invalid_api_key", openai.AuthenticationError),
        ("forbidden", 403, "invalid_request_error", "permission_denied", openai.PermissionDeniedError),
        ("not-found", 404, "invalid_request_error", "model_not_found", openai.NotFoundError),
        ("rate-limited", 429, "requests", "rate_limit_exceeded", openai.RateLimitError),
        ("quota", 429, "insufficient_quota", "insufficient_quota", openai.RateLimitError),
        ("server-error", 500, "server_error", None, openai.InternalServerError),
        ("overloaded", 503, "server_error", "server_is_overloaded", openai.InternalServerError),
    ],
)
async def test_error_statuses_reach_the_official_client(
    sdk: openai.AsyncOpenAI,
    fault: str,
    status: int,
    kind: str,
    code: str | None,
    error: type[openai.APIStatusError],
    stream: bool,
) -> None:
    with pytest.raises(error) as raised:
        await sdk.chat.completions.create(
            model=f"sim-{fault}", messages=[{"role": "user", "content": "x"}], stream=stream
        )
    assert (raised.value.status_code, raised.value.type, raised.value.code) == (status, kind, code)
    assert raised.value.request_id is not None


async def test_details_of_the_error_statuses(client: httpx.AsyncClient) -> None:
    assert (await ask(client, "sim-bad-request")).json()["error"]["param"] == "temperature"
    assert (await ask(client, "sim-rate-limited")).headers["retry-after"] == "1"
    assert (await ask(client, "sim-overloaded-7")).headers["retry-after"] == "7"
    message = (await ask(client, "sim-unauthorized")).json()["error"]["message"]
    assert "sk-simul*****************cdef" in message
    assert KEY not in message
    html = await ask(client, "sim-bad-gateway-html")
    assert (html.status_code, html.headers["content-type"]) == (502, "text/html; charset=utf-8")


async def test_header_has_precedence_over_model_name(client: httpx.AsyncClient, sim: ProviderSimulator) -> None:
    response = await client.post("/chat/completions", json=chat("sim-quota"), headers={"x-sim-fault": "rate-limited=3"})
    assert response.headers["retry-after"] == "3"
    assert sim.requests("sim-quota")[0].fault == "rate-limited"
    response = await client.get("/models", headers={"x-sim-fault": "server-error"})
    assert response.status_code == 500
    response = await client.post("/embeddings", json={"model": "sim-quota", "input": "x"})
    assert response.status_code == 429


# --- faults: time


async def test_delay_holds_the_headers_back(client: httpx.AsyncClient) -> None:
    started = time.monotonic()
    async with client.stream("POST", "/chat/completions", json=chat("sim-delay-100", stream=True)):
        assert time.monotonic() - started >= 0.1


async def test_slow_first_token_sends_headers_at_once(client: httpx.AsyncClient) -> None:
    started = time.monotonic()
    body = chat("sim-slow-first-token-300", stream=True)
    async with responsive_time() as spent, client.stream("POST", "/chat/completions", json=body) as response:
        assert spent.seconds < 0.25
        text = "".join([part async for part in response.aiter_text()])
    assert time.monotonic() - started >= 0.3
    assert data_lines(text)[-1] == "[DONE]"
    started = time.monotonic()
    assert (await ask(client, "sim-slow-first-token-50")).status_code == 200
    assert time.monotonic() - started >= 0.05


@pytest.mark.parametrize("stream", [False, True])
async def test_slow_stream_pauses_between_parts(client: httpx.AsyncClient, stream: bool) -> None:
    started = time.monotonic()
    body = chat("sim-slow-stream-20", stream=stream)
    async with client.stream("POST", "/chat/completions", json=body) as response:
        parts = [part async for part in response.aiter_text()]
    text = "".join(parts)
    assert len(parts) >= 3, "a busy client gets some of the parts together"
    assert time.monotonic() - started >= 0.1
    assert data_lines(text)[-1] == "[DONE]" if stream else json.loads(text)["choices"]


# --- faults: broken connections and bodies


@pytest.mark.parametrize("stream", [False, True])
async def test_drop_sends_no_byte(sim: ProviderSimulator, stream: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(raw_request(chat("sim-drop", stream=stream)))
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    assert (await sim.wait_for_outcome("sim-drop", "aborted")).ended is not None


@pytest.mark.parametrize("stream", [False, True])
async def test_drop_mid_body_promises_more_than_it_sends(sim: ProviderSimulator, stream: bool) -> None:
    async with aiohttp.ClientSession(headers=AUTH) as http:
        body = chat("sim-drop-mid-body", stream=stream)
        async with http.post(f"{sim.base_url}/chat/completions", json=body) as response:
            assert response.status == 200
            received: list[bytes] = []
            with pytest.raises(aiohttp.ClientPayloadError):
                await collect(response.content.iter_any(), received)
    assert 0 < len(b"".join(received)) < int(response.headers["Content-Length"])
    assert sim.stats()["sim-drop-mid-body"]["aborted"] == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_stream_drop_cuts_inside_a_chunk(client: httpx.AsyncClient, stream: bool) -> None:
    received: list[str] = []
    async with client.stream("POST", "/chat/completions", json=chat("sim-stream-drop-3", stream=stream)) as response:
        with pytest.raises(httpx.RemoteProtocolError):
            await collect(response.aiter_text(), received)
    text = "".join(received)
    if stream:
        assert len(data_lines(text)) == 3
        assert all(orjson.loads(line)["choices"] for line in data_lines(text))
        assert text.split("\n\n")[-1].startswith('data: {"id"')
    else:
        assert text.startswith('{"id"')


@pytest.mark.parametrize("stream", [False, True])
async def test_stream_hang_sends_nothing_more(client: httpx.AsyncClient, sim: ProviderSimulator, stream: bool) -> None:
    received: list[str] = []
    body = chat("sim-stream-hang", stream=stream)
    async with client.stream("POST", "/chat/completions", json=body, timeout=None) as response:
        reading = asyncio.create_task(collect(response.aiter_text(), received))
        await until(lambda: "".join(received).count("\n\n") == 2 if stream else bool(received))
        await asyncio.sleep(0.1)
        assert not reading.done()
        reading.cancel()
        await asyncio.wait([reading])
    text = "".join(received)
    assert len(data_lines(text)) == 2 if stream else text.startswith('{"id"')
    await sim.wait_for_outcome("sim-stream-hang", "client_closed")


async def test_hang_sends_no_response(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/chat/completions", json=chat("sim-hang"), timeout=httpx.Timeout(30, read=0.2))


async def test_wrong_bodies_of_json_requests(client: httpx.AsyncClient) -> None:
    malformed = await ask(client, "sim-malformed-json")
    assert (malformed.status_code, malformed.headers["content-type"]) == (200, "application/json")
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(malformed.content)
    assert (await ask(client, "sim-wrong-shape")).json() == {"hello": "world"}
    html = await ask(client, "sim-wrong-content-type")
    assert (html.status_code, html.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (await ask(client, "sim-stream-error")).json()["error"]["type"] == "server_error"
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads((await ask(client, "sim-stream-truncated")).content)


async def test_wrong_bodies_of_streams(client: httpx.AsyncClient) -> None:
    malformed, done = data_lines((await ask(client, "sim-malformed-json", stream=True)).text)
    assert done == "[DONE]"
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(malformed)
    shape = data_lines((await ask(client, "sim-wrong-shape", stream=True)).text)
    assert shape == ['{"hello": "world"}', "[DONE]"]
    *good, error = data_lines((await ask(client, "sim-stream-error", stream=True)).text)
    assert len(good) == 2
    assert orjson.loads(error)["error"]["type"] == "server_error"
    truncated = data_lines((await ask(client, "sim-stream-truncated-99", stream=True)).text)
    assert all(orjson.loads(line)["choices"][0]["finish_reason"] is None for line in truncated)
    assert len(truncated) > 2


async def test_flaky_fails_first_and_counts_by_key(client: httpx.AsyncClient) -> None:
    async def statuses(times: int, headers: dict[str, str] | None = None, **fields: Any) -> list[int]:
        answers = [
            await client.post("/chat/completions", json=chat("sim-flaky-2", **fields), headers=headers)
            for _ in range(times)
        ]
        return [answer.status_code for answer in answers]

    assert await statuses(4) == [500, 500, 200, 200]
    assert await statuses(3, user="somebody") == [500, 500, 200]
    assert await statuses(3, headers={"x-sim-key": "one"}) == [500, 500, 200]


async def test_refused_port_refuses_and_cannot_be_taken(sim: ProviderSimulator, client: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=sim.refused_url) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("/models")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", sim.refused_port))
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(client, "sim-refused")


async def test_redirect_counts_only_followers(sim: ProviderSimulator, client: httpx.AsyncClient) -> None:
    assert (await ask(client, "sim-redirect")).status_code == 302
    assert sim.stats()["sim-redirect"]["followed_redirects"] == 0
    followed = await client.post("/chat/completions", json=chat("sim-redirect"), follow_redirects=True)
    assert followed.json() == {"followed": True}
    assert sim.stats()["sim-redirect"]["followed_redirects"] == 1


async def test_small_huge_body_ends_as_completion(client: httpx.AsyncClient) -> None:
    body = (await ask(client, "sim-huge-body-1")).json()
    assert len(body["choices"][0]["message"]["content"]) == 1024 * 1024
    streamed = data_lines((await ask(client, "sim-huge-body-1", stream=True)).text)
    assert sum(len(orjson.loads(line)["choices"][0]["delta"]["content"]) for line in streamed) >= 1_000_000
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(client, "sim-huge-line-1", stream=True)
