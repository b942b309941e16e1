"""Errors as the official Python client shows them: the right exception, code and wait."""

import time
from collections.abc import Iterator

import openai
import pytest

from tests.conftest import PROVIDER_KEY, Platform
from tests.support.gateway.process import Gateway
from tests.support.providers.client_models import HELLO, TIGHT_WINDOW_SECONDS


def client_for(gateway: Gateway, key: str, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.base_url}/v1", api_key=key, max_retries=retries)


@pytest.fixture
def sdk(clients_gateway: Gateway, client_key: str) -> Iterator[openai.OpenAI]:
    """Create a client without retries."""
    with client_for(clients_gateway, client_key) as client:
        yield client


def test_unknown_key_raises_authentication_error(clients_gateway: Gateway) -> None:
    with (
        client_for(clients_gateway, "sk-not-one-of-ours") as wrong,
        pytest.raises(openai.AuthenticationError) as raised,
    ):
        wrong.chat.completions.create(model="openai-ok", messages=HELLO)
    assert (raised.value.code, raised.value.type) == ("invalid_api_key", "authentication_error")
    assert raised.value.request_id
    assert "sk-not-one-of-ours" not in str(raised.value)


def test_missing_scope_raises_permission_error(clients_gateway: Gateway, platform: Platform) -> None:
    with (
        client_for(clients_gateway, platform.key("platform:chat")) as narrow,
        pytest.raises(openai.PermissionDeniedError) as raised,
    ):
        narrow.models.list()
    assert raised.value.code == "insufficient_scope"


def test_unknown_or_forbidden_model_raises_not_found(clients_gateway: Gateway, platform: Platform) -> None:
    with client_for(clients_gateway, platform.key("platform:chat", models=["azure-ok"])) as narrow:
        with pytest.raises(openai.NotFoundError) as missing:
            narrow.chat.completions.create(model="nothing", messages=HELLO)
        with pytest.raises(openai.PermissionDeniedError) as denied:
            narrow.chat.completions.create(model="openai-ok", messages=HELLO)
        assert narrow.chat.completions.create(model="azure-ok", messages=HELLO).choices
    assert missing.value.code == "model_not_found"
    assert denied.value.code == "model_not_allowed"


def test_invalid_request_raises_bad_request(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        sdk.chat.completions.create(model="openai-ok", messages=[])
    assert (raised.value.param, raised.value.type) == ("messages", "invalid_request_error")


def test_too_long_context_raises_bad_request(sdk: openai.OpenAI, wire: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        sdk.chat.completions.create(model=f"{wire}-context-length", messages=HELLO)
    assert (raised.value.code, raised.value.type) == ("context_length_exceeded", "invalid_request_error")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("server-error", 502, "provider_error"),
        ("unauthorized", 502, "provider_auth_failed"),
        ("rate-limited", 503, "provider_rate_limited"),
    ],
)
def test_provider_failure_raises_server_error(
    sdk: openai.OpenAI, wire: str, fault: str, status: int, code: str
) -> None:
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as raised:
            sdk.chat.completions.create(model=f"{wire}-{fault}", messages=HELLO, stream=stream)
        assert (raised.value.status_code, raised.value.code, raised.value.type) == (status, code, "server_error")
        assert raised.value.response.headers["x-platform-provider"] == wire
        assert PROVIDER_KEY not in str(raised.value)


def test_provider_failure_in_stream_raises_api_error(sdk: openai.OpenAI, wire: str) -> None:
    parts: list[str] = []

    def read() -> None:
        for chunk in sdk.chat.completions.create(model=f"{wire}-stream-error", messages=HELLO, stream=True):
            parts.append(chunk.choices[0].delta.content or "" if chunk.choices else "")  # noqa: PERF401 - it raises

    with pytest.raises(openai.APIError) as raised:
        read()
    assert raised.value.code == "provider_error"
    assert "You said: hello".startswith("".join(parts))


def test_client_retry_waits_for_retry_after(clients_gateway: Gateway, tight_key: str) -> None:
    with client_for(clients_gateway, tight_key) as impatient, client_for(clients_gateway, tight_key, 2) as patient:
        impatient.chat.completions.create(model="openai-tight", messages=HELLO)
        used = time.monotonic()
        with pytest.raises(openai.RateLimitError) as raised:
            impatient.chat.completions.create(model="openai-tight", messages=HELLO)
        assert (raised.value.code, raised.value.type) == ("rate_limited", "rate_limit_error")
        wait = int(raised.value.response.headers["retry-after"])
        # The window and at most one of its buckets, in whole seconds.
        assert 1 <= wait <= TIGHT_WINDOW_SECONDS + 1

        asked = time.monotonic()
        raw = patient.chat.completions.with_raw_response.create(model="openai-tight", messages=HELLO)
        assert raw.parse().choices[0].message.content == "You said: hello"
        # One refusal and one wait, after which the request succeeds. The wait is in whole seconds, and may be one less
        # than a moment ago; the client's own backoff would be half a second.
        assert raw.retries_taken == 1
        assert time.monotonic() - asked >= wait - 1
        assert time.monotonic() - used >= TIGHT_WINDOW_SECONDS - 0.1
