"""Every guarded route of the app, asked with every grant that there is: allowed exactly where the table says so."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from apps.platform_api.main import create_app
from apps.platform_api.security.route_check import api_routes, guard_of
from platform_app.auth.permissions import GRANTS, Scope
from tests.conftest import Platform
from tests.support.gateway.process import Gateway

NOBODY = "0" * 12


@dataclass(frozen=True)
class Expected:
    """Who may call a route, and a request that changes nothing."""

    scope: str | None
    status: int
    """What the request below gets from somebody who may."""
    body: Mapping[str, Any] | None = None


EXPECTED: Mapping[str, Expected] = {
    "POST /v1/platform/chat": Expected("platform:chat", 200, {"prompt": "Hello"}),
    "POST /v1/chat/completions": Expected("platform:chat", 200, {"messages": [{"role": "user", "content": "Hello"}]}),
    "POST /v1/embeddings": Expected("platform:embeddings", 200, {"input": "Hello"}),
    "GET /v1/models": Expected("platform:models:read", 200),
    "GET /v1/models/{model:path}": Expected("platform:models:read", 404),
    "POST /v1/platform/api-keys": Expected("platform:api_keys:manage", 422, {}),
    "GET /v1/platform/api-keys": Expected("platform:api_keys:read", 200),
    "GET /v1/platform/api-keys/{key_id}": Expected("platform:api_keys:read", 404),
    "PATCH /v1/platform/api-keys/{key_id}": Expected("platform:api_keys:manage", 404, {}),
    "POST /v1/platform/api-keys/{key_id}/rotate": Expected("platform:api_keys:manage", 404, {}),
    "POST /v1/platform/api-keys/{key_id}/revoke": Expected("platform:api_keys:manage", 404, {"reason": "a test"}),
    "GET /v1/platform/audit": Expected("platform:audit:read", 200),
    "GET /v1/platform/usage": Expected(None, 200),
    "GET /v1/platform/limits": Expected(None, 200),
}
"""The registry, written a second time by hand: a guard that asks for another scope by mistake differs from it."""

COVERED_BY = {
    "platform:chat": {"platform:chat"},
    "platform:embeddings": {"platform:embeddings"},
    "platform:models:read": {"platform:models:read", "platform:models:*"},
    "platform:api_keys:read": {"platform:api_keys:read", "platform:api_keys:*"},
    "platform:api_keys:manage": {"platform:api_keys:manage", "platform:api_keys:*"},
    "platform:audit:read": {"platform:audit:read", "platform:audit:*"},
    "platform:usage:read": {"platform:usage:read", "platform:usage:*"},
}
"""Which grants cover a scope, besides platform:*."""


@pytest.fixture(scope="module")
def key_of(platform: Platform) -> Mapping[str, str]:
    """A key for every grant, which holds nothing else."""
    return {grant: platform.key(grant) for grant in sorted(GRANTS)}


def guarded_routes(platform: Platform) -> dict[str, str | None]:
    app = create_app(platform.settings())
    return {
        f"{method} {route.path}": guard.scope
        for route in api_routes(app)
        for method in route.methods or ()
        if (guard := guard_of(route)) is not None
    }


def test_the_matrix_knows_every_guarded_route(platform: Platform) -> None:
    assert guarded_routes(platform) == {route: expected.scope for route, expected in EXPECTED.items()}


def test_the_matrix_knows_every_scope_and_grant() -> None:
    assert set(COVERED_BY) == set(Scope)
    assert set().union(*COVERED_BY.values()) | {"platform:*"} == GRANTS


@pytest.mark.parametrize("route", EXPECTED)
async def test_a_route_with_every_grant(
    client: httpx.AsyncClient, gateway: Gateway, key_of: Mapping[str, str], route: str
) -> None:
    expected = EXPECTED[route]
    method, path = route.split()
    url = gateway.base_url + path.replace("{key_id}", NOBODY).replace("{model:path}", "no-such/model")

    async def ask(grant: str) -> httpx.Response:
        return await client.request(
            method, url, headers={"Authorization": f"Bearer {key_of[grant]}"}, json=expected.body
        )

    answers = dict(zip(key_of, await asyncio.gather(*map(ask, key_of)), strict=True))

    assert len(answers) == len(GRANTS)
    allowed = GRANTS if expected.scope is None else COVERED_BY[expected.scope] | {"platform:*"}
    for grant, response in answers.items():
        if grant in allowed:
            assert response.status_code == expected.status, (grant, response.text)
            continue
        assert (response.status_code, response.json()["error"]["code"]) == (403, "insufficient_scope"), grant
        assert response.headers["www-authenticate"].endswith(f'scope="{expected.scope}"')
    without = await client.request(method, url, json=expected.body)
    assert (without.status_code, without.json()["error"]["code"]) == (401, "missing_credentials")


async def test_all_scopes_but_one_are_not_enough(
    client: httpx.AsyncClient, gateway: Gateway, platform: Platform
) -> None:
    every = set(Scope)
    for route, expected in EXPECTED.items():
        if expected.scope is None:
            continue
        method, path = route.split()
        key = platform.key(*sorted(every - {expected.scope}))
        response = await client.request(
            method,
            gateway.base_url + path.replace("{key_id}", NOBODY).replace("{model:path}", "no-such/model"),
            headers={"Authorization": f"Bearer {key}"},
            json=expected.body,
        )
        assert response.status_code == 403, route
