"""A provider, or a proxy in front of one, that repeats our credential in its response: the credential reaches neither a
caller nor the log.

Azure's keys have no recognisable form; the key here has none either.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.conftest import GENEROUS, PATIENT, Platform
from tests.support.gateway.chat_routes import ROUTES, ChatRoute
from tests.support.gateway.http import access_line
from tests.support.gateway.process import Gateway, write_catalog
from tests.support.providers.wires import WIRES, provider_of
from tests.support.servers.network.tcp import Server

KEY = "0ca7a21e5b3d4f60817293a4b5c6d7e8"
STATUSES = {
    200: "invalid_request_error",
    400: "invalid_request_error",
    401: "authentication_error",
    429: "rate_limit_error",
    500: "api_error",
}
"""The status with Anthropic's type; 200 is a stream that begins with an error, whatever the request says."""
STORED = {
    "object": "response", "status": "completed", "output": [],
    "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
}  # fmt: skip


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The status is in the model's name, or in the id of a stored response. A request to store one succeeds."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.findall(rb"content-length: (\d+)", head, re.I)
    asked = head + await reader.readexactly(int(length[0]) if length else 0)
    key = re.findall(rb"(?:authorization: Bearer|x-api-key:|api-key:) (\S+)", head, re.I)[0].decode()
    status = int(re.findall(rb"echo-(\d+)", asked)[0])
    error = {
        "type": STATUSES[status],
        "code": "content_filter" if status == 200 else key,
        "message": f"'{key}' is wrong",
    }
    body = json.dumps({"type": "error", "error": {**error, "param": f"headers.{key}"}}).encode()
    content_type = "application/json"
    if b'"store":true' in asked:
        status, body = 200, json.dumps({**STORED, "id": f"echo-{status}"}).encode()
    elif status == 200:
        body, content_type = b"event: error\ndata: %b\n\n" % body, "text/event-stream"
    lines = [
        f"HTTP/1.1 {status} Echo",
        f"Content-Type: {content_type}",
        f"X-Echo: {key}",
        f"Content-Length: {len(body)}",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()


@pytest.fixture(scope="module")
async def echoing(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Run a gateway whose every provider repeats the credential."""
    directory = tmp_path_factory.mktemp("echo")
    async with Server(_echo) as echo:
        config = write_catalog(
            directory / "platform.yaml",
            {
                wire: provider_of(wire, echo.url) | ({"stores_responses": True} if wire == "openai-responses" else {})
                for wire in WIRES
            },
            {f"{wire}-{status}": [(wire, f"echo-{status}")] for wire in WIRES for status in STATUSES},
            rate_limits=GENEROUS,
            policies=PATIENT,
        )
        environment = {
            **platform.environment,
            "OPENAI_API_KEY": KEY,
            "PLATFORM_CONFIG_FILE": str(config),
            "PLATFORM_DEFAULT_MODEL": "openai-400",
            "PLATFORM_LOG_LEVEL": "debug",
        }
        gateway = Gateway(environment, directory)
        await asyncio.to_thread(gateway.start)
        try:
            yield gateway
        finally:
            await asyncio.to_thread(gateway.stop)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_echoed_credential_is_masked_everywhere(
    echoing: Gateway, client: httpx.AsyncClient, chat_key: str, route: ChatRoute, wire: str
) -> None:
    for status in STATUSES:
        for stream in (False, True):
            response = await client.post(
                echoing.base_url + route.path,
                headers={**route.headers, "Authorization": f"Bearer {chat_key}"},
                json=route.body(model=f"{wire}-{status}", stream=stream),
            )
            assert response.status_code >= 400
            whole = f"{response.headers}{response.text}"
            assert KEY[:8] not in whole
            assert KEY[-8:] not in whole
            # The caller gets the message only if it must act on it: so there was something to mask.
            told = status in (200, 400)
            assert ("'[masked]' is wrong" in whole) is told
            request_id = response.headers["x-request-id"]
    await access_line(echoing, request_id)  # the log is written to here
    output = echoing.log_file.read_text() + echoing.metrics()
    assert KEY[:8] not in output
    assert KEY[-8:] not in output


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_credential_echoed_for_stored_response_is_masked(
    echoing: Gateway, client: httpx.AsyncClient, chat_key: str, method: str
) -> None:
    headers = {"Authorization": f"Bearer {chat_key}"}
    for status in (400, 401, 429, 500):
        request = {"model": f"openai-responses-{status}", "input": "Hi.", "store": True}
        created = await client.post(f"{echoing.base_url}/v1/responses", headers=headers, json=request)
        url = f"{echoing.base_url}/v1/responses/{created.json()['id']}"
        response = await client.request(method, url, headers=headers)
        assert response.status_code >= 400
        whole = f"{response.headers}{response.text}"
        assert KEY[:8] not in whole
        assert KEY[-8:] not in whole
        assert ("'[masked]' is wrong" in whole) is (status == 400)
        request_id = response.headers["x-request-id"]
    await access_line(echoing, request_id)  # the log is written to here
    output = echoing.log_file.read_text()
    assert KEY[:8] not in output
    assert KEY[-8:] not in output
