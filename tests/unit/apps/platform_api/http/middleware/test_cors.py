"""CORS: who is allowed, what a preflight gets, and that credentials never are."""

import re

import pytest
from starlette.types import Scope

from apps.platform_api.http.middleware.cors import EXPOSED, MAX_REQUESTED_BYTES, METHODS, REQUEST_HEADERS, CorsPolicy
from apps.platform_api.main import create_app
from apps.platform_api.security.route_check import api_routes
from platform_app.config import load_settings, parse_origins
from tests.support.paths import ROOT

APP = "https://app.example.com"


def request(*headers: tuple[str, str]) -> Scope:
    return {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers]}


def headers_of(policy: CorsPolicy, *headers: tuple[str, str]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in policy.headers(request(*headers))}


def test_allowed_origin_is_named_and_may_read_our_headers() -> None:
    found = headers_of(CorsPolicy([APP, "http://localhost:5173"]), ("origin", APP))
    assert found.pop("access-control-expose-headers").split(", ") == list(EXPOSED)
    assert found == {"vary": "Origin", "access-control-allow-origin": APP}


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("origin", "https://evil.example.com")],
        [("origin", "null")],
        [("origin", f"{APP}.evil.example")],
        [("origin", f"{APP}:8443")],
        [("origin", APP.upper())],
        [("origin", "http://app.example.com")],
        [("origin", APP), ("origin", "https://evil.example.com")],
    ],
)
def test_other_origins_are_not_allowed(headers: list[tuple[str, str]]) -> None:
    assert headers_of(CorsPolicy([APP]), *headers) == {"vary": "Origin"}
    asked = [*headers, ("access-control-request-method", "POST")]
    assert CorsPolicy([APP]).preflight(request(*asked)) is None


def test_any_origin_is_a_star_and_not_an_echo() -> None:
    found = headers_of(CorsPolicy(["*"]), ("origin", "https://any.example"))
    assert found["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("origins", [[APP], ["*"]])
def test_credentials_are_never_allowed(origins: list[str]) -> None:
    asked = request(("origin", APP), ("access-control-request-method", "POST"))
    policy = CorsPolicy(origins)
    preflight = policy.preflight(asked)
    assert preflight is not None
    names = [name for name, _ in (*policy.headers(asked), *preflight.raw_headers)]
    assert b"access-control-allow-credentials" not in names


@pytest.mark.parametrize(
    ("requested", "allowed"),
    [
        ("authorization,content-type", "authorization,content-type"),
        ("Authorization, X-Stainless-OS", "authorization, x-stainless-os"),
        ("", REQUEST_HEADERS),
        ("a b", REQUEST_HEADERS),
        ("a,,b", REQUEST_HEADERS),
        ("a\r\nx: y", REQUEST_HEADERS),
        ("é", REQUEST_HEADERS),
        ("x" * (MAX_REQUESTED_BYTES + 1), REQUEST_HEADERS),
    ],
)
def test_preflight_allows_the_requested_headers(requested: str, allowed: str) -> None:
    asked = [
        ("origin", APP), ("access-control-request-method", "POST"), ("access-control-request-headers", requested),
    ]  # fmt: skip
    response = CorsPolicy([APP]).preflight(request(*asked))
    assert response is not None
    assert (response.status_code, response.body) == (204, b"")
    assert response.headers["access-control-allow-methods"] == METHODS
    assert response.headers.get("access-control-allow-headers") == allowed


def test_pages_may_use_every_method_and_documented_header() -> None:
    app = create_app(load_settings(database_url="postgresql://a:b@localhost/c", redis_url="redis://localhost"))
    methods = set().union(*(route.methods or () for route in api_routes(app)))
    assert methods - {"HEAD"} <= set(METHODS.split(", "))
    page = (ROOT / "docs/http/headers.md").read_text().partition("\n## Request headers\n")[0]
    documented = {name.lower() for name in re.findall(r"^\| `([\w-]+)` \|", page, re.M)}
    assert len(documented) == 5
    assert documented - {"cache-control", "x-accel-buffering"} <= set(EXPOSED), "the first is safelisted"
    assert "x-platform-token-count" in EXPOSED


def test_options_without_a_method_is_not_a_preflight() -> None:
    assert CorsPolicy([APP]).preflight(request(("origin", APP))) is None


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", ()),
        (" , ", ()),
        ("*", ("*",)),
        (f"{APP}, http://localhost:5173", (APP, "http://localhost:5173")),
        ("http://[::1]:3000,chrome-extension://abc,tauri://localhost", None),
    ],
)
def test_valid_origins_are_accepted(text: str, origins: tuple[str, ...] | None) -> None:
    assert parse_origins(text) == (tuple(text.split(",")) if origins is None else origins)


@pytest.mark.parametrize(
    "text",
    [
        f"{APP}/", f"{APP}/path", "app.example.com", "https://", "https://*.example.com", f"*,{APP}", "null",
        "https://App.example.com", "https://app.example.com:443", "http://a.example:80", "https://user@a.example",
        "https://a.example?x", "https://a b", ",".join(f"https://a{number}.example" for number in range(101)),
    ],
)  # fmt: skip
def test_malformed_origins_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        parse_origins(text)
