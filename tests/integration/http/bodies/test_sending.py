"""Content type, size and speed of a request body."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.conftest import Platform
from tests.support.gateway.http import access_line, chat_head, chat_request, connect
from tests.support.gateway.process import Gateway
from tests.support.gateway.refused_bodies import JSON, MIB, refusal, still_works


@pytest.fixture(scope="module")
def impatient_gateway(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose bodies time out after half a second."""
    environment = {**platform.environment, "PLATFORM_BODY_TIMEOUT_SECONDS": "0.5"}
    with Gateway(environment, tmp_path_factory.mktemp("impatient")) as running:
        yield running


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "", "multipart/form-data"]
)
async def test_body_of_another_content_type_is_refused(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], content_type: str
) -> None:
    response = await client.post(
        gateway.chat_url, headers={**headers, "Content-Type": content_type}, content=b'{"prompt": "Hello"}'
    )
    assert refusal(response)[:2] == (415, "unsupported_media_type")
    await still_works(client, gateway, headers)


async def test_body_without_a_content_type_is_refused(
    gateway: Gateway, client: httpx.AsyncClient, chat_key: str
) -> None:
    response = await client.post(
        gateway.chat_url, headers={"Authorization": f"Bearer {chat_key}"}, content=b'{"prompt": "Hello"}'
    )
    assert refusal(response)[:2] == (415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/a+json"])
async def test_json_content_type_variants_are_accepted(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], content_type: str
) -> None:
    response = await client.post(
        gateway.chat_url, headers={**headers, "Content-Type": content_type}, content=b'{"prompt": "Hello"}'
    )
    assert response.status_code == 200


async def _chunks(size: int) -> AsyncIterator[bytes]:
    yield b'{"prompt": "'
    for _ in range(size // 65536):
        yield b"x" * 65536
    yield b'"}'


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
async def test_body_of_eleven_megabytes_is_refused(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], chunked: bool
) -> None:
    content = _chunks(11 * MIB) if chunked else b'{"prompt": "' + b"x" * 11 * MIB + b'"}'
    response = await client.post(gateway.chat_url, headers=headers, content=content)
    assert refusal(response)[:2] == (413, "payload_too_large")
    await still_works(client, gateway, headers)


async def test_body_just_below_the_limit_is_accepted(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    text = "x" * (10 * MIB - 14)
    response = await client.post(gateway.chat_url, headers=headers, content=f'{{"prompt":"{text}"}}')
    assert response.status_code == 200
    assert response.json()["output"] == f"You said: {text}"


async def test_declared_length_is_refused_before_the_body(gateway: Gateway, chat_key: str) -> None:
    async with connect(gateway) as connection:
        await connection.send(chat_head(chat_key, "declared", f"Content-Length: {11 * MIB}"))
        status, headers, body = await connection.answer()
        assert (status, json.loads(body)["error"]["code"]) == (413, "payload_too_large")
        assert headers["connection"] == "close"
        assert await connection.reader.read() == b""


async def test_endless_chunked_body_is_refused(gateway: Gateway, chat_key: str) -> None:
    """The gateway closes the connection of a client that keeps sending after the 413."""
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    async with connect(gateway) as connection:
        await connection.send(chat_head(chat_key, "endless", "Transfer-Encoding: chunked"))
        for _ in range(11 * MIB // 65536):
            await connection.send(chunk)

        async def go_on() -> None:
            while True:
                await connection.send(chunk)
                await asyncio.sleep(0.01)

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(go_on(), 60)


@pytest.mark.parametrize("sent", [b"", b'{"prompt":'], ids=["nothing", "the beginning"])
async def test_slow_body_is_refused_at_its_deadline(impatient_gateway: Gateway, chat_key: str, sent: bytes) -> None:
    async with connect(impatient_gateway) as connection:
        started = time.monotonic()
        await connection.send(chat_head(chat_key, "slow", "Content-Length: 100") + sent)
        status, _, body = await connection.answer()
        assert time.monotonic() - started > 0.4
    error = json.loads(body)["error"]
    assert (status, error["code"], error["request_id"]) == (400, "invalid_request", "slow")
    async with httpx.AsyncClient(trust_env=False, timeout=300) as client:
        await still_works(client, impatient_gateway, {"Authorization": f"Bearer {chat_key}", "Content-Type": JSON})


async def test_dripping_body_is_refused_while_it_drips(impatient_gateway: Gateway, chat_key: str) -> None:
    """The deadline applies to the whole body: a byte every tenth of a second does not extend it."""
    async with connect(impatient_gateway) as connection:
        await connection.send(chat_head(chat_key, "drips", "Content-Length: 1000") + b'{"prompt":"')

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):  # it is closed some time after the response
                while True:
                    await connection.send(b"x")
                    await asyncio.sleep(0.1)

        dripping = asyncio.create_task(drip())
        status, _, body = await connection.answer()
        dripping.cancel()
        await asyncio.wait([dripping])
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (400, "invalid_request")
    assert "did not arrive" in error["message"], "the body was read to its end"


async def test_slow_body_without_a_key_is_refused_at_once(gateway: Gateway) -> None:
    """A gateway that waited for the body would respond with 400."""
    async with connect(gateway) as connection:
        await connection.send(chat_head("nobody", "slow-nobody", "Content-Length: 100"))
        assert (await connection.answer())[0] == 401


async def test_disconnect_during_the_body_is_recorded_as_499(gateway: Gateway, chat_key: str) -> None:
    async with connect(gateway) as connection:
        await connection.send(chat_head(chat_key, "left-early", "Content-Length: 100") + b'{"prompt"')
        await asyncio.sleep(0.1)  # the handler waits for the rest by then; nothing outside shows it
    line = await access_line(gateway, "left-early")
    assert (line["status"], line["reason"]) == (499, "client_closed")
    events = [found["event"] for found in gateway.log_lines() if found.get("request_id") == "left-early"]
    assert events == ["request"]


async def test_connection_of_a_bad_request_takes_another(gateway: Gateway, chat_key: str) -> None:
    bad = chat_head(chat_key, "bad", "Content-Length: 3") + b"{x}"
    async with connect(gateway) as connection:
        await connection.send(bad + chat_request(chat_key, {"prompt": "Hello"}, "good"))
        assert (await connection.answer())[0] == 400
        status, headers, body = await connection.answer()
        assert (status, headers["x-request-id"]) == (200, "good")
        assert json.loads(body)["output"] == "You said: Hello"


async def test_headers_over_the_limit_are_refused(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    response = await client.post(gateway.chat_url, headers={**headers, "X-Big": "x" * 33_000}, content=b"{}")
    assert refusal(response)[:2] == (431, "headers_too_large")
    await still_works(client, gateway, headers)
