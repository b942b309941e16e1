"""Every refusal of every lifecycle route, in one table that knows all routes and all statuses that they document."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from apps.platform_api.main import create_app
from apps.platform_api.security.route_check import api_routes
from platform_app.auth.tokens import generate_token
from tests.conftest import Platform
from tests.support.gateway.http import connect
from tests.support.gateway.process import Gateway

PREFIX = "/v1/platform/api-keys"
REALM = 'Bearer realm="flowbiz-platform"'
UNKNOWN = "0" * 12
MEGABYTE = 1 << 20

CREATE, LIST = f"POST {PREFIX}", f"GET {PREFIX}"
SHOW, UPDATE = f"GET {PREFIX}/{{key_id}}", f"PATCH {PREFIX}/{{key_id}}"
ROTATE, REVOKE = f"POST {PREFIX}/{{key_id}}/rotate", f"POST {PREFIX}/{{key_id}}/revoke"

GOOD: dict[str, Any] = {
    CREATE: {"name": "n", "owner": "o", "scopes": ["platform:chat"]},
    UPDATE: {"name": "n"},
    ROTATE: {"grace_period_seconds": 0},
    REVOKE: {"reason": "a test"},
}
SCOPE = dict.fromkeys(GOOD, "platform:api_keys:manage") | dict.fromkeys((LIST, SHOW), "platform:api_keys:read")


NEVER = {SHOW: {422}}
"""Documented because FastAPI does so for every path parameter; what is no id is 404."""


@dataclass(frozen=True)
class Keys:
    """Keys in every state that a refusal needs."""

    admin: str
    manager: str
    """May manage keys that hold platform:chat, and no others."""
    chat: str
    unknown: str
    revoked: str
    exhausted: str
    """Whose limit is used up."""
    live_id: str
    revoked_id: str
    admin_id: str
    before: dict[str, Any]
    """What the server shows of the keys that rows name, before any row."""


@dataclass(frozen=True)
class Row:
    """One refusal: what is sent, and what comes back."""

    route: str
    name: str
    status: int
    code: str
    says: str = ""
    """Part of the message or of a detail."""
    key: Callable[[Keys], str | None] = lambda keys: keys.admin
    key_id: Callable[[Keys], str] = lambda keys: keys.live_id
    content: bytes | None = None
    declares: int | None = None
    """A Content-Length; the body itself is never sent."""
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def body_of(route: str, **changes: Any) -> bytes:
    return json.dumps({**GOOD[route], **changes}).encode()


def rows() -> list[Row]:
    table = []
    for route, scope in SCOPE.items():
        table += [
            Row(route, "no key", 401, "missing_credentials", key=lambda keys: None),
            Row(route, "a malformed key", 401, "invalid_api_key", key=lambda keys: keys.admin[:-1]),
            Row(route, "an unknown key", 401, "invalid_api_key", key=lambda keys: keys.unknown),
            Row(route, "a revoked key", 401, "invalid_api_key", key=lambda keys: keys.revoked),
            Row(route, "another scope", 403, "insufficient_scope", f"'{scope}'", key=lambda keys: keys.chat),
            Row(route, "a used up limit", 429, "rate_limited", "key-rpm", key=lambda keys: keys.exhausted),
            Row(route, "large headers", 431, "headers_too_large", headers={"X-Padding": "x" * 33_000}),
        ]
    for route in GOOD:
        table += [
            Row(route, "no JSON", 400, "invalid_request", "JSON", content=b"{"),
            Row(route, "nothing", 400, "invalid_request", "JSON", content=b""),
            Row(route, "no UTF-8", 400, "invalid_request", content=b'{"name": "\xff"}'),
            Row(route, "a large body", 413, "payload_too_large", "10485760", declares=10 * MEGABYTE + 1),
            Row(route, "another type", 415, "unsupported_media_type", "application/json",
                headers={"Content-Type": "text/plain"}),
            Row(route, "no type", 415, "unsupported_media_type", headers={"Content-Type": ""}),
            Row(route, "a list", 422, "validation_error", "body", content=b"[]"),
            Row(route, "a field too many", 422, "validation_error", "surplus", content=body_of(route, surplus=1)),
            Row(route, "a NUL", 422, "validation_error", "not a field", content=b'{"a\\u0000b": 1}'),
            Row(route, "half a character", 422, "validation_error", "body", content=b'{"\\ud800": 1}'),
        ]  # fmt: skip
    table += [
        Row(CREATE, "a field too few", 422, "validation_error", "owner", content=b'{"name":"n","scopes":["a"]}'),
        Row(CREATE, "a scope that is none", 422, "validation_error", "scopes", content=body_of(CREATE, scopes=["a"])),
        Row(CREATE, "a scope beyond", 403, "insufficient_scope", "'platform:*'", key=lambda keys: keys.manager,
            content=body_of(CREATE, scopes=["platform:*"])),
        Row(UPDATE, "a scope beyond", 403, "insufficient_scope", "'platform:*'", key=lambda keys: keys.manager,
            content=body_of(UPDATE, scopes=["platform:*"])),
        Row(UPDATE, "a wrong field", 422, "validation_error", "name", content=body_of(UPDATE, name="")),
        Row(ROTATE, "a wrong field", 422, "validation_error", "grace_period_seconds",
            content=body_of(ROTATE, grace_period_seconds=-1)),
        Row(REVOKE, "no reason", 422, "validation_error", "reason", content=b"{}"),
        Row(LIST, "a limit of 0", 422, "validation_error", "limit", query="limit=0"),
        Row(LIST, "a limit of 201", 422, "validation_error", "limit", query="limit=201"),
        Row(LIST, "another status", 422, "validation_error", "status", query="status=gone"),
        Row(LIST, "another environment", 422, "validation_error", "environment", query="environment=prod"),
        Row(LIST, "a made-up cursor", 422, "validation_error", "cursor", query="cursor=abc"),
        Row(LIST, "a cursor with a NUL", 422, "validation_error", "cursor", query="cursor=MS4AAA"),
        Row(LIST, "a NUL in the owner", 422, "validation_error", "owner", query="owner=a%00"),
        Row(LIST, "a NUL in the scope", 422, "validation_error", "scope", query="scope=%00"),
        Row(LIST, "a long owner", 422, "validation_error", "owner", query="owner=" + "x" * 201),
    ]  # fmt: skip
    for route in (SHOW, UPDATE, ROTATE, REVOKE):
        for name, key_id in (("unknown", UNKNOWN), ("short", "abc"), ("long", "x" * 300), ("no text", "%00"),
                             ("no UTF-8", "%ff"), ("quoted", "'%20OR%201=1--"), ("wide digits", "０" * 12)):  # noqa: RUF001  # fmt: skip
            table.append(
                Row(route, f"an id that is {name}", 404, "not_found", "id", key_id=lambda keys, given=key_id: given)  # type: ignore[misc]
            )
    for route in (UPDATE, ROTATE, REVOKE):
        table += [
            Row(route, "a key that was revoked", 409, "conflict", "final", key_id=lambda keys: keys.revoked_id),
            Row(route, "a key beyond", 403, "insufficient_scope", "'platform:*'", key=lambda keys: keys.manager,
                key_id=lambda keys: keys.admin_id),
        ]  # fmt: skip
    return table


TABLE = rows()


@pytest.fixture(scope="module")
def keys(platform: Platform, gateway: Gateway) -> Keys:
    admin, admin_text = platform.new_key("platform:*")
    revoked, revoked_text = platform.new_key("platform:*")
    platform.revoke(revoked.key_id)
    with httpx.Client(base_url=gateway.base_url, trust_env=False) as client:
        wanted = {"name": "n", "owner": "tests", "scopes": ["platform:*"], "limits": {"key-rpm": 1}}
        made = client.post(PREFIX, headers={"Authorization": f"Bearer {admin_text}"}, json=wanted)
        exhausted = made.json()["key"]
        used = client.get(PREFIX, headers={"Authorization": f"Bearer {exhausted}"}, params={"limit": 1})
        assert used.status_code == 200
        live_id = platform.new_key("platform:chat")[0].key_id
        named = (live_id, revoked.key_id, admin.key_id)
        before = {
            key_id: _lasting(client.get(f"{PREFIX}/{key_id}", headers={"Authorization": f"Bearer {admin_text}"}).json())
            for key_id in named
        }
    return Keys(
        admin=admin_text,
        manager=platform.key("platform:api_keys:manage", "platform:chat"),
        chat=platform.key("platform:chat"),
        unknown=generate_token("test").text,
        revoked=revoked_text,
        exhausted=exhausted,
        live_id=live_id,
        revoked_id=revoked.key_id,
        admin_id=admin.key_id,
        before=before,
    )


def _lasting(shown: dict[str, Any]) -> dict[str, Any]:
    """A key without what its use changes."""
    return {name: value for name, value in shown.items() if name != "last_used_at"}


def test_table_has_every_route_and_documented_error(platform: Platform) -> None:
    app = create_app(platform.settings())
    routes = {
        f"{method} {route.path}"
        for route in api_routes(app)
        for method in route.methods or ()
        if route.path.startswith(PREFIX)
    }
    assert routes == set(SCOPE), "this table lacks a route, or knows one that is gone"
    paths = app.openapi()["paths"]
    for name in routes:
        method, path = name.split()
        documented = {int(status) for status in paths[path][method.lower()]["responses"] if status.startswith("4")}
        covered = {row.status for row in TABLE if row.route == name}
        assert documented - NEVER.get(name, set()) == covered, name


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.status} {row.route.replace(PREFIX, '')} {row.name}")
async def test_request_is_refused_as_documented(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, row: Row
) -> None:
    method, path = row.route.split()
    headers = row.headers if method == "GET" else {"Content-Type": "application/json"} | row.headers
    if (key := row.key(keys)) is not None:
        headers = {"Authorization": f"Bearer {key}"} | headers
    content = row.content if row.content is not None or row.route not in GOOD else body_of(row.route)
    path = path.replace("{key_id}", row.key_id(keys)) + (f"?{row.query}" if row.query else "")

    if row.declares is None:
        response = await client.request(method, gateway.base_url + path, headers=headers, content=content)
    else:
        response = await announce(gateway, method, path, headers | {"Content-Length": str(row.declares)})

    assert response.status_code == row.status, response.text
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert {"code", "message", "request_id"} <= set(error) <= {"code", "message", "request_id", "details"}
    assert error["code"] == row.code
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["message"]
    assert all(isinstance(detail, str) for detail in error.get("details", []))
    assert row.says in " ".join([error["message"], *error.get("details", [])])
    challenge = response.headers.get("www-authenticate")
    match row.status:
        case 401 if row.code == "missing_credentials":
            assert challenge == REALM
        case 401:
            assert challenge == f'{REALM}, error="invalid_token"'
        case 403:
            assert challenge is not None
            assert challenge.startswith(f'{REALM}, error="insufficient_scope", scope="platform:')
        case _:
            assert challenge is None
    assert ("retry-after" in response.headers) == (row.status == 429)


async def announce(gateway: Gateway, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    """Send the head of a request without its body, and return the response."""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", *(f"{name}: {value}" for name, value in headers.items())]
    async with connect(gateway) as connection:
        await connection.send("\r\n".join([*lines, "", ""]).encode())
        status, answered, body = await connection.answer()
    return httpx.Response(status, headers=answered, content=body)


async def test_refused_requests_changed_nothing(client: httpx.AsyncClient, gateway: Gateway, keys: Keys) -> None:
    """The keys that the rows above name are as they were, and their owner has no key more."""
    headers = {"Authorization": f"Bearer {keys.admin}"}
    for key_id, before in keys.before.items():
        response = await client.get(f"{gateway.base_url}{PREFIX}/{key_id}", headers=headers)
        assert _lasting(response.json()) == before
    response = await client.get(f"{gateway.base_url}{PREFIX}", headers=headers, params={"owner": "o"})
    assert response.json()["data"] == [], "a refused creation made a key"
