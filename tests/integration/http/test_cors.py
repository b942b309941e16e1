"""CORS at a running gateway: off by default; on, a page can call, and read errors too."""

from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import Platform
from tests.support.gateway.http import metric
from tests.support.gateway.process import Gateway

APP = "https://app.example.com"
PREFLIGHT = {"Origin": APP, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
PATHS = ("/v1/chat/completions", "/v1/platform/chat", "/openai/deployments/sim-ok/chat/completions", "/v1/models")


@pytest.fixture(scope="module")
def open_gateway(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    environment = {**platform.environment, "PLATFORM_CORS_ORIGINS": f"{APP}, http://localhost:5173"}
    with Gateway(environment, tmp_path_factory.mktemp("cors")) as running:
        yield running


def cors_of(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("path", PATHS)
async def test_cors_is_off_by_default(gateway: Gateway, client: httpx.AsyncClient, chat_key: str, path: str) -> None:
    preflight = await client.options(gateway.base_url + path, headers=PREFLIGHT)
    assert (preflight.status_code, cors_of(preflight), preflight.headers.get("vary")) == (405, {}, None)
    response = await client.post(
        gateway.chat_url, headers={"X-API-Key": chat_key, "Origin": APP}, json={"prompt": "Hi"}
    )
    assert (response.status_code, cors_of(response)) == (200, {})


@pytest.mark.parametrize("path", PATHS)
async def test_preflight_needs_no_key(open_gateway: Gateway, client: httpx.AsyncClient, path: str) -> None:
    before = metric(open_gateway.metrics(), "platform_http_requests_total", route="preflight")
    response = await client.options(open_gateway.base_url + path, headers=PREFLIGHT)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-origin"] == APP
    assert response.headers["access-control-allow-headers"] == "authorization"
    assert response.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in response.headers
    assert metric(open_gateway.metrics(), "platform_http_requests_total", route="preflight") == before + 1


async def test_preflight_of_another_origin_is_not_allowed(open_gateway: Gateway, client: httpx.AsyncClient) -> None:
    other = {**PREFLIGHT, "Origin": "https://evil.example.com"}
    response = await client.options(f"{open_gateway.base_url}/v1/chat/completions", headers=other)
    assert (response.status_code, cors_of(response), response.headers["vary"]) == (405, {}, "Origin")


@pytest.mark.parametrize("stream", [False, True])
async def test_page_reads_responses_and_their_headers(
    open_gateway: Gateway, client: httpx.AsyncClient, chat_key: str, stream: bool
) -> None:
    response = await client.post(
        open_gateway.chat_url,
        headers={"Authorization": f"Bearer {chat_key}", "Origin": APP},
        json={"prompt": "Hi", "stream": stream},
    )
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, APP)
    exposed = response.headers["access-control-expose-headers"].split(", ")
    standard = {
        "content-type",
        "content-length",
        "cache-control",
        "date",
        "vary",
        "transfer-encoding",
        "x-accel-buffering",
        "connection",
    }
    own = {name for name in response.headers if not name.startswith("access-control-")} - standard
    assert own <= set(exposed)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/platform/chat", {}, 401),
        ("/v1/platform/chat", {"Authorization": "x"}, 401),
        ("/v1/nothing", {}, 404),
        ("/v1/models", {}, 405),
    ],
)
async def test_page_reads_errors(
    open_gateway: Gateway, client: httpx.AsyncClient, path: str, headers: dict[str, str], status: int
) -> None:
    """Without the headers a browser shows a page only that the request failed."""
    response = await client.post(open_gateway.base_url + path, headers={**headers, "Origin": APP}, json={})
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (status, APP)


async def test_page_reads_a_refusal_of_a_body(open_gateway: Gateway, client: httpx.AsyncClient, chat_key: str) -> None:
    headers = {"X-API-Key": chat_key, "Origin": APP, "Content-Type": "application/json", "Content-Encoding": "gzip"}
    response = await client.post(open_gateway.chat_url, headers=headers, content=b"x")
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (415, APP)
