"""Credentials: which combinations of headers are one key, and the message for the others."""

import pytest
from starlette.types import Scope

from apps.platform_api.security.guard import credentials
from platform_app.errors import InvalidApiKey, MissingCredentials
from tests.support.fakes.core import Count


def request(*headers: tuple[str, str]) -> Scope:
    return {"type": "http", "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]}


AUTHORIZATION, KEY, AZURE = "Authorization", "X-API-Key", "api-key"


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
        [(AZURE, "k1")],
        [(AZURE, "k1"), (AUTHORIZATION, "Bearer k1"), (KEY, "k1")],
    ],
)
def test_headers_with_one_key_return_it(headers: list[tuple[str, str]]) -> None:
    assert credentials(request(*headers)) == "k1"


def test_missing_headers_are_missing_credentials() -> None:
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
        [(AZURE, "k1"), (KEY, "k2")],
        [(AZURE, "Bearer k1")],
    ],
)
def test_other_headers_are_an_invalid_key(headers: list[tuple[str, str]]) -> None:
    malformed = Count("platform_auth_total", outcome="malformed")
    with pytest.raises(InvalidApiKey):
        credentials(request(*headers))
    assert malformed.grown == 1


SECRET = "k1"


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([(AUTHORIZATION, SECRET)], "The header Authorization does not begin with 'Bearer '"),
        ([(AUTHORIZATION, f"{SECRET} x")], "The header Authorization does not begin with 'Bearer '"),
        ([(AUTHORIZATION, SECRET), (KEY, SECRET)], "leave it out if the key is in another header"),
        ([(AUTHORIZATION, "")], "The header Authorization is empty"),
        ([(AUTHORIZATION, f"Basic {SECRET}")], "The header Authorization has the scheme 'basic'"),
        ([(AUTHORIZATION, "Basic")], "The header Authorization does not begin with 'Bearer '"),
        ([(AUTHORIZATION, f"Token {SECRET}"), (KEY, SECRET)], "The header Authorization has the scheme 'token'"),
        ([(AUTHORIZATION, "Bearer")], "'Bearer' without a key"),
        ([(AUTHORIZATION, f"Bearer Bearer {SECRET}")], "Bearer twice"),
        ([(AUTHORIZATION, f"Bearer: {SECRET}")], "exactly 'Bearer' and a space"),
        ([(AUTHORIZATION, f"Bearer{SECRET}")], "exactly 'Bearer' and a space"),
        ([(AUTHORIZATION, f"Bearer {SECRET} x")], "more than one word behind Bearer"),
        ([(KEY, f"Bearer {SECRET}")], "The header X-API-Key takes the key alone"),
        ([(AZURE, f"Bearer {SECRET}")], "The header api-key takes the key alone"),
        ([(KEY, "")], "The header X-API-Key is empty"),
        (
            [(AUTHORIZATION, "Bearer dummy"), (KEY, SECRET)],
            "The headers Authorization and X-API-Key hold different keys",
        ),
        ([(AZURE, SECRET), (AUTHORIZATION, "Bearer x")], "The headers api-key and Authorization hold different keys"),
        ([(KEY, SECRET), (KEY, "x")], "The header X-API-Key was sent more than once, with different keys"),
    ],
    ids=lambda value: str(value[:44]) if isinstance(value, str) else "",
)
def test_malformed_credentials_are_described(headers: list[tuple[str, str]], told: str) -> None:
    """A key without "Bearer", a placeholder beside a good key: what is wrong, and nothing of the key."""
    with pytest.raises(InvalidApiKey) as caught:
        credentials(request(*headers))
    assert told in caught.value.message
    assert SECRET not in caught.value.message
