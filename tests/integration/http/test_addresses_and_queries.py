"""Paths, query parameters and credentials in unusual forms (kinds 30, 31, 11c), at a running gateway."""

import gzip
from typing import Any

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway.process import Gateway

CHAT = {"model": "sim-ok", "messages": [{"role": "user", "content": "Hello"}]}
JSON_ROUTES = ("/v1/platform/chat", "/v1/chat/completions", "/v1/embeddings", "/v1/platform/api-keys")


@pytest.fixture(scope="module")
def key(platform: Platform) -> str:
    return platform.key("platform:*")


def bearer(key: str, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", **headers}


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    return error


async def test_models_with_a_final_slash_is_not_the_default_model(
    gateway: Gateway, client: httpx.AsyncClient, key: str
) -> None:
    """Kind 30: the response was the default model alone."""
    for path in ("/v1/models/", "/openai/models/", "/openai/v1/models/"):
        response = await client.get(gateway.base_url + path, headers=bearer(key))
        assert response.status_code == 404
        assert error_of(response)["code"] == "not_found"
        assert "Use GET /v1/models" in error_of(response)["message"]
    for name in ("%20", "%2F", "x/", "/"):
        response = await client.get(f"{gateway.base_url}/v1/models/{name}", headers=bearer(key))
        assert (response.status_code, error_of(response)["code"]) == (404, "model_not_found")


async def test_empty_model_name_is_not_the_default_model(gateway: Gateway, client: httpx.AsyncClient, key: str) -> None:
    url = f"{gateway.base_url}/v1/platform/limits"
    assert (await client.get(url, params={"model": ""}, headers=bearer(key))).status_code == 422


@pytest.mark.parametrize("path", JSON_ROUTES)
async def test_compressed_body_is_refused_by_name(
    gateway: Gateway, client: httpx.AsyncClient, key: str, path: str
) -> None:
    """Kind 31: with and without the header that declares it."""
    content = gzip.compress(b'{"prompt": "Hello"}')
    for extra in ({"Content-Encoding": "gzip"}, {}):
        response = await client.post(
            gateway.base_url + path,
            headers=bearer(key, **{"Content-Type": "application/json"}, **extra),
            content=content,
        )
        assert (response.status_code, error_of(response)["code"]) == (415, "unsupported_media_type")
        assert "gzip" in error_of(response)["message"]
        assert response.headers["accept-encoding"] == "identity"


async def test_large_compressed_body_is_refused_before_it_is_read(
    gateway: Gateway, client: httpx.AsyncClient, key: str
) -> None:
    headers = bearer(key, **{"Content-Type": "application/json", "Content-Encoding": "br"})
    response = await client.post(gateway.chat_url, headers=headers, content=b"\x00[," * 1_000_000)
    assert (response.status_code, error_of(response)["code"]) == (415, "unsupported_media_type")


async def test_large_compressed_body_without_a_header_is_named_too(
    gateway: Gateway, client: httpx.AsyncClient, key: str
) -> None:
    """It is not refused as JSON of too many values, although its bytes look like that."""
    headers = bearer(key, **{"Content-Type": "application/json"})
    response = await client.post(gateway.chat_url, headers=headers, content=b"\x1f\x8b" + b"[]," * 1_000_000)
    assert (response.status_code, error_of(response)["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-be", "latin-1"])
@pytest.mark.parametrize("path", ["/v1/platform/chat", "/v1/chat/completions"])
async def test_body_of_another_encoding_is_refused_by_name(
    gateway: Gateway, client: httpx.AsyncClient, key: str, path: str, encoding: str
) -> None:
    headers = bearer(key, **{"Content-Type": "application/json"})
    content = '{"prompt": "Grüße"}'.encode(encoding)
    response = await client.post(gateway.base_url + path, headers=headers, content=content)
    assert response.status_code == (400 if encoding == "latin-1" else 415)
    assert "UTF-8" in error_of(response)["message"]


async def test_output_is_the_text_of_a_list_of_parts(gateway: Gateway, client: httpx.AsyncClient, key: str) -> None:
    """Kind 32."""
    response = await client.post(gateway.chat_url, headers=bearer(key), json={"prompt": "parts: a, b"})
    assert response.json()["output"] == "You said: parts: a, b"
    assert isinstance(response.json()["message"]["content"], list)


# --- credentials


@pytest.mark.parametrize(
    "path", ["/v1/platform/chat", "/v1/chat/completions", "/openai/deployments/sim-ok/chat/completions"]
)
async def test_x_api_key_header_is_accepted(gateway: Gateway, client: httpx.AsyncClient, key: str, path: str) -> None:
    body = {"prompt": "Hello"} if "platform" in path else CHAT
    response = await client.post(gateway.base_url + path, headers={"api-key": key}, json=body)
    assert response.status_code == 200


async def test_key_without_bearer_is_explained(gateway: Gateway, client: httpx.AsyncClient, key: str) -> None:
    """A placeholder beside a good key gets the status and code of every bad key, with another message."""
    for headers, told in (
        ({"Authorization": key}, "does not begin with 'Bearer '"),
        ({"Authorization": "Bearer dummy", "X-API-Key": key}, "hold different keys"),
        ({"Authorization": "dummy", "X-API-Key": key}, "does not begin with 'Bearer '"),
        ({"Authorization": f"Basic {key}"}, "scheme 'basic'"),
    ):
        response = await client.post(gateway.chat_url, headers=headers, json={"prompt": "Hello"})
        assert (response.status_code, error_of(response)["code"]) == (401, "invalid_api_key")
        assert told in error_of(response)["message"]
        assert key not in response.text


# --- 11c: queries


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/v1/platform/audit?key_di=x", "key_di"),
        ("/v1/platform/audit?kind=access&Limit=1", "Limit"),
        ("/v1/platform/usage?owners=x", "owners"),
        ("/v1/platform/usage?key_id=a&key_id=b", "key_id"),
        ("/v1/platform/api-keys?ownr=x", "ownr"),
        ("/v1/platform/api-keys/000000000000?x=1", "x"),
        ("/v1/platform/limits?models=sim-ok", "models"),
        ("/v1/models?owner=x", "owner"),
        ("/v1/models/sim-ok?owner=x", "owner"),
        ("/openai/models?api-version=2024-10-21&owner=x", "owner"),
    ],
)
async def test_unknown_query_parameter_is_refused_by_name(
    gateway: Gateway, client: httpx.AsyncClient, key: str, path: str, wrong: str
) -> None:
    response = await client.get(gateway.base_url + path, headers=bearer(key))
    assert (response.status_code, error_of(response)["code"]) == (422, "validation_error")
    assert f"{wrong}: " in response.text


@pytest.mark.parametrize("path", JSON_ROUTES)
async def test_query_parameter_of_a_post_is_refused_by_name(
    gateway: Gateway, client: httpx.AsyncClient, simulator: ProviderSimulator, key: str, path: str
) -> None:
    before = simulator.count("sim-ok")
    response = await client.post(f"{gateway.base_url}{path}?model=sim-ok&stream=true", headers=bearer(key), json=CHAT)
    assert response.status_code == 422
    assert "model: " in response.text
    assert simulator.count("sim-ok") == before


async def test_caller_is_known_before_its_query_is_read(gateway: Gateway, client: httpx.AsyncClient) -> None:
    response = await client.get(f"{gateway.base_url}/v1/platform/audit?key_di=x")
    assert response.status_code == 401
    assert "key_di" not in response.text


@pytest.mark.parametrize("path", ["/healthz?x=1", "/readyz?cache=no", "/v1/meta?a=b", "/openapi.json?v=2"])
async def test_probes_take_any_query(gateway: Gateway, client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(gateway.base_url + path)).status_code == 200


# --- 11c: addresses


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("POST", "/chat/completions", "Use POST /v1/chat/completions: paths begin with /v1"),
        ("POST", "/v1/chat/completions/", "without a slash at the end"),
        ("POST", "//v1/chat/completions", "with single slashes"),
        ("POST", "/responses", "Use POST /v1/responses"),
        ("GET", "/v1/platform/audit/", "Use GET /v1/platform/audit"),
    ],
)
async def test_path_with_a_typo_names_the_nearest_path(
    gateway: Gateway, client: httpx.AsyncClient, method: str, path: str, told: str
) -> None:
    response = await client.request(method, gateway.base_url + path)
    assert (response.status_code, error_of(response)["code"]) == (404, "not_found")
    assert told in error_of(response)["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/platform/api-keys", "GET, POST"),
        ("GET", "/v1/chat/completions", "POST"),
        ("GET", "/openai/deployments/sim-ok/chat/completions", "POST"),
        ("POST", "/openai/models", "GET"),
    ],
)
async def test_wrong_method_lists_allowed_methods(
    gateway: Gateway, client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await client.request(method, gateway.base_url + path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert f"This path accepts only {allowed}." in error_of(response)["message"]
