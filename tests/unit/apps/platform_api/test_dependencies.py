"""Where the key comes from: which combinations of headers are one key, and which are none."""

import pytest
from fastapi import Request

from apps.platform_api.dependencies import credentials
from platform_app.errors import InvalidApiKey, MissingCredentials
from tests.unit.fakes import Count


def request(*headers: tuple[str, str]) -> Request:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return Request({"type": "http", "headers": raw})


AUTHORIZATION, KEY = "Authorization", "X-API-Key"


@pytest.mark.parametrize(
    "headers",
    [
        [(AUTHORIZATION, "Bearer k1")],
        [(AUTHORIZATION, "bearer k1")],
        [(AUTHORIZATION, "BEARER   k1")],
        [(AUTHORIZATION, " Bearer k1 ")],
        [(KEY, "k1")],
        [(KEY, "k1"), (AUTHORIZATION, "Bearer k1")],
        [(KEY, "k1"), (KEY, "k1")],
    ],
)
def test_one_key(headers: list[tuple[str, str]]) -> None:
    assert credentials(request(*headers)) == "k1"


def test_none() -> None:
    missing = Count("platform_auth_total", outcome="missing")
    with pytest.raises(MissingCredentials):
        credentials(request(("Cookie", "key=k1"), ("X-Api-Keys", "k1"), ("Proxy-Authorization", "Bearer k1")))
    assert missing.grown == 1


@pytest.mark.parametrize(
    "headers",
    [
        [(AUTHORIZATION, "")],
        [(AUTHORIZATION, "Bearer")],
        [(AUTHORIZATION, "Bearer ")],
        [(AUTHORIZATION, "Bearer k1 k2")],
        [(AUTHORIZATION, "Bearer k1, Bearer k1")],
        [(AUTHORIZATION, "Basic azE6")],
        [(AUTHORIZATION, "k1")],
        [(AUTHORIZATION, "Bearerk1")],
        [(AUTHORIZATION, "Bearer\tk1")],
        [(KEY, "")],
        [(KEY, "k1"), (KEY, "k2")],
        [(AUTHORIZATION, "Bearer k1"), (AUTHORIZATION, "Bearer k2")],
        [(AUTHORIZATION, "Bearer k1"), (KEY, "k2")],
        [(AUTHORIZATION, "Basic azE6"), (KEY, "k1")],
        [(AUTHORIZATION, "Bearer k1"), (KEY, "")],
    ],
)
def test_everything_else_is_one_bad_key(headers: list[tuple[str, str]]) -> None:
    malformed = Count("platform_auth_total", outcome="malformed")
    with pytest.raises(InvalidApiKey):
        credentials(request(*headers))
    assert malformed.grown == 1
