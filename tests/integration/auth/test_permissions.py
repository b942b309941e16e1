"""Every guarded route of the app, asked with every grant that there is: allowed exactly where the table says so."""

import asyncio
from collections.abc import Mapping

import httpx
import pytest

from apps.platform_api.main import create_app
from apps.platform_api.security.route_check import api_routes, guard_of
from platform_app.auth.permissions import GRANTS, Scope
from tests.conftest import Platform
from tests.support.gateway.guarded_routes import GUARDED, path_of
from tests.support.gateway.process import Gateway

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


def test_matrix_has_every_guarded_route(platform: Platform) -> None:
    assert guarded_routes(platform) == {route: expected.scope for route, expected in GUARDED.items()}


def test_matrix_has_every_scope_and_grant() -> None:
    assert set(COVERED_BY) == set(Scope)
    assert set().union(*COVERED_BY.values()) | {"platform:*"} == GRANTS


@pytest.mark.parametrize("route", GUARDED)
async def test_route_accepts_only_covering_grants(
    client: httpx.AsyncClient, gateway: Gateway, key_of: Mapping[str, str], route: str
) -> None:
    expected = GUARDED[route]
    method, path = route.split()
    url = gateway.base_url + path_of(path)

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
        assert (response.status_code, code_of(response)) == (403, "insufficient_scope"), grant
        assert response.headers["www-authenticate"].endswith(f'scope="{expected.scope}"')
    without = await client.request(method, url, json=expected.body)
    assert (without.status_code, code_of(without)) == (401, "missing_credentials")


def code_of(response: httpx.Response) -> str:
    """Return the gateway's code of an error, in OpenAI's, Anthropic's or the platform's shape."""
    error = response.json()["error"]
    code: str = error["code"] if "code" in error else error["details"]["error_code"]
    return code


async def test_all_scopes_but_one_are_refused(client: httpx.AsyncClient, gateway: Gateway, platform: Platform) -> None:
    every = set(Scope)
    for route, expected in GUARDED.items():
        if expected.scope is None:
            continue
        method, path = route.split()
        key = platform.key(*sorted(every - {expected.scope}))
        response = await client.request(
            method,
            gateway.base_url + path_of(path),
            headers={"Authorization": f"Bearer {key}"},
            json=expected.body,
        )
        assert response.status_code == 403, route
