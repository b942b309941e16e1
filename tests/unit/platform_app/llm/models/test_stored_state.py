"""Which routes may store responses, and one credential for each read or deletion."""

from typing import Any

import pytest

from platform_app.errors import Overloaded, ProviderAuthFailed, RequestRefused
from platform_app.llm.errors import UnsupportedByProvider
from platform_app.llm.formats import ApiFormat
from platform_app.llm.models.route import Route
from platform_app.llm.models.stored_state import StoredRoute, require_stored_state
from platform_app.llm.policies.concurrency import ConcurrencyLimit
from platform_app.llm.requests import ModelCall

PINNED = ("openai", "gpt-5")


def a_route(*, stores: bool = True, secret: str | None = "key") -> Route:
    return Route("smart", *PINNED, secret_name=secret, stores_responses=stores)


def a_call(body: dict[str, Any], pinned: tuple[str, str] | None = None) -> ModelCall:
    return ModelCall(body, 60.0, format=ApiFormat.RESPONSES, pinned=pinned)


@pytest.mark.parametrize("body", [{}, {"store": False}, {"store": None}, {"previous_response_id": None}])
def test_stateless_call_needs_no_stored_state(body: dict[str, Any]) -> None:
    require_stored_state(a_route(stores=False), a_call(body))


def test_other_formats_need_no_stored_state() -> None:
    """`store` of a chat completion is another feature."""
    require_stored_state(a_route(stores=False), ModelCall({"store": True}, 60.0, format=ApiFormat.CHAT))


def test_route_that_stores_responses_takes_its_own_state() -> None:
    require_stored_state(a_route(), a_call({"store": True}))
    require_stored_state(a_route(), a_call({"previous_response_id": "resp_1"}, PINNED))


@pytest.mark.parametrize(
    ("stores", "body", "pinned", "field"),
    [
        (False, {"store": True}, None, "store"),
        (False, {"previous_response_id": "resp_1"}, PINNED, "previous_response_id"),
        (True, {"previous_response_id": "resp_1"}, None, "previous_response_id"),
        (True, {"previous_response_id": "resp_1"}, ("azure", "gpt-5"), "previous_response_id"),
        (True, {"previous_response_id": "resp_1"}, ("openai", "gpt-6"), "previous_response_id"),
    ],
)
def test_state_elsewhere_is_refused_by_its_field(
    stores: bool, body: dict[str, Any], pinned: tuple[str, str] | None, field: str
) -> None:
    with pytest.raises(UnsupportedByProvider) as caught:
        require_stored_state(a_route(stores=stores), a_call(body, pinned))
    assert caught.value.param == field


class Provider:
    """Stores one response, and accepts one credential."""

    def __init__(self, accepts: str | None) -> None:
        self.accepts = accepts
        self.calls: list[tuple[str, str, str | None, float]] = []

    async def read_stored(self, response_id: str, credential: str | None, timeout_seconds: float) -> bytes | None:
        return self._called("read", response_id, credential, timeout_seconds)

    async def delete_stored(self, response_id: str, credential: str | None, timeout_seconds: float) -> bytes | None:
        return self._called("delete", response_id, credential, timeout_seconds)

    def _called(self, what: str, response_id: str, credential: str | None, seconds: float) -> bytes:
        self.calls.append((what, response_id, credential, seconds))
        if credential != self.accepts:
            raise ProviderAuthFailed("refused")
        return what.encode()


class Credentials:
    """Returns `old` at first, and `new` after a refresh."""

    def __init__(self, new: str) -> None:
        self.new = new

    async def get(self, name: str) -> str:
        assert name == "key"
        return "old"

    async def refresh(self, name: str, rejected: str) -> str:
        assert (name, rejected) == ("key", "old")
        return self.new


async def test_stored_response_is_read_and_deleted_at_its_route() -> None:
    provider = Provider("old")
    stored = StoredRoute(a_route(), provider, Credentials("new"))
    assert [await stored.read("resp_1", 3.0), await stored.delete("resp_2", 4.0)] == [b"read", b"delete"]
    assert provider.calls == [("read", "resp_1", "old", 3.0), ("delete", "resp_2", "old", 4.0)]


async def test_rotated_credential_is_used_for_a_second_call() -> None:
    provider = Provider("new")
    assert await StoredRoute(a_route(), provider, Credentials("new")).delete("resp_1", 3.0) == b"delete"
    assert [credential for _, _, credential, _ in provider.calls] == ["old", "new"]


async def test_unchanged_credential_is_not_tried_twice() -> None:
    provider = Provider("other")
    with pytest.raises(ProviderAuthFailed):
        await StoredRoute(a_route(), provider, Credentials("old")).read("resp_1", 3.0)
    assert len(provider.calls) == 1


async def test_route_without_a_secret_sends_no_credential() -> None:
    provider = Provider(None)
    assert await StoredRoute(a_route(secret=None), provider, Credentials("new")).read("resp_1", 3.0) == b"read"
    assert provider.calls == [("read", "resp_1", None, 3.0)]


class EchoingProvider(Provider):
    """Refuses every call, and repeats the credential."""

    def _called(self, what: str, response_id: str, credential: str | None, seconds: float) -> bytes:
        error = RequestRefused("refused", details=[f"Authorization: Bearer {credential}"], param=credential)
        error.provider_message = f"{what} with '{credential}' is wrong"
        raise error


@pytest.mark.parametrize("delete", [False, True])
async def test_echoed_credential_is_masked(delete: bool) -> None:
    stored = StoredRoute(a_route(), EchoingProvider(None), SecretCredentials("new"))
    with pytest.raises(RequestRefused) as caught:
        await (stored.delete if delete else stored.read)("resp_1", 3.0)
    error = caught.value
    assert error.details == ["Authorization: Bearer [masked]"]
    assert SecretCredentials.SECRET not in f"{error.param}{error.provider_message}"


class SecretCredentials(Credentials):
    """Returns a credential without a recognisable form."""

    SECRET = "0ca7a21e5b3d4f60817293a4b5c6d7e8"

    async def get(self, name: str) -> str:
        return self.SECRET


async def test_calls_count_against_the_concurrency_limit() -> None:
    limit = ConcurrencyLimit("stored-state", 1, 0, 1.0)
    provider = Provider("other")
    stored = StoredRoute(a_route(), provider, Credentials("old"), limit)
    await limit.acquire(0.0)
    with pytest.raises(Overloaded):
        await stored.read("resp_1", 3.0)
    assert provider.calls == []
    limit.release()
    with pytest.raises(ProviderAuthFailed):
        await stored.delete("resp_1", 3.0)
    assert len(provider.calls) == 1
    assert limit.in_use == 0
