"""No cache on the way keeps a response: every route forbids it, in successes and errors."""

import asyncio
from collections.abc import Mapping

import httpx
import pytest
from starlette.routing import Route

from apps.platform_api.main import create_app
from apps.platform_api.security.route_check import PUBLIC
from tests.conftest import Platform
from tests.support.gateway.guarded_routes import GUARDED, path_of
from tests.support.gateway.keys_api import Api
from tests.support.gateway.process import Gateway

PUBLIC_ROUTES = sorted(f"{method} {path}" for method, path in PUBLIC)
EVERY_ROUTE = [*GUARDED, *PUBLIC_ROUTES]


def requires_no_store(response: httpx.Response) -> None:
    directives = [each.strip() for each in response.headers["cache-control"].split(",")]
    assert directives.count("no-store") == 1, response.headers
    assert len(response.headers.get_list("cache-control")) == 1
    assert not {"public", "max-age", "immutable"} & {each.partition("=")[0] for each in directives}


def test_walk_knows_every_route_of_the_app(platform: Platform) -> None:
    app = create_app(platform.settings())
    found = {
        f"{method} {route.path}"
        for route in app.router.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert found == set(EVERY_ROUTE)


@pytest.mark.parametrize("route", EVERY_ROUTE)
async def test_every_response_of_a_route_is_not_stored(
    client: httpx.AsyncClient, gateway: Gateway, admin: Api, route: str
) -> None:
    method, template = route.split()
    url = gateway.base_url + path_of(template)
    body = GUARDED[route].body if route in GUARDED else None
    # A key that may do something else, and that its limit refuses after one request.
    _, other = await admin.created(scopes=["platform:embeddings"], limits={"key-rpm": 1})
    headers: Mapping[str, Mapping[str, str]] = {
        "with all": {"X-API-Key": admin.key},
        "without scope": {"X-API-Key": other},
        "over its limit": {"Authorization": f"Bearer {other}"},
        "without a key": {},
        "with a bad key": {"X-API-Key": "fbp_test_x"},
        "first": {"X-API-Key": admin.key, "Idempotency-Key": f"no-store {route}"},
        "replay": {"X-API-Key": admin.key, "Idempotency-Key": f"no-store {route}"},
    }
    seen = {}
    for what, each in headers.items():
        response = await client.request(method, url, headers=each, json=body)
        seen[what] = response.status_code
        requires_no_store(response)
    wrong_method = await client.request("PUT", url, headers=headers["with all"])
    assert wrong_method.status_code == 405
    requires_no_store(wrong_method)
    if route in GUARDED:
        assert (seen["with all"], seen["without a key"]) == (GUARDED[route].status, 401)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/platform/chat", {"prompt": "Hello", "stream": True}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}], "stream": True}),
    ],
)
async def test_stream_is_neither_stored_nor_transformed(
    client: httpx.AsyncClient, gateway: Gateway, platform: Platform, path: str, body: Mapping[str, object]
) -> None:
    key = await asyncio.to_thread(platform.key, "platform:chat")
    for _ in range(2):  # the second one is a replay
        headers = {"X-API-Key": key, "Idempotency-Key": "stream"}
        response = await client.post(gateway.base_url + path, headers=headers, json=body)
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-cache, no-store, no-transform"


async def test_export_and_unknown_address_are_not_stored(
    client: httpx.AsyncClient, gateway: Gateway, platform: Platform
) -> None:
    headers = {"X-API-Key": await asyncio.to_thread(platform.key, "platform:*")}
    for path in ("/v1/platform/audit?format=jsonl&limit=1&since=2100-01-01T00:00:00Z", "/nothing", "/"):
        requires_no_store(await client.get(gateway.base_url + path, headers=headers))
        requires_no_store(await client.get(gateway.base_url + path))
