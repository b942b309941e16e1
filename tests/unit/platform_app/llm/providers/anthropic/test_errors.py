"""Anthropic's errors as ours: every row of the table, and the provider's message only where it belongs."""

import json
from typing import get_args

import pytest
from anthropic.types.shared.error_type import ErrorType
from hypothesis import example, given, settings
from hypothesis import strategies as st

from platform_app import errors
from platform_app.llm.providers.anthropic import errors as anthropic_errors
from platform_app.llm.providers.anthropic.errors import error_from_event, error_from_response

ROWS = [
    (400, "invalid_request_error", errors.ProviderRejectedRequest),
    (401, "authentication_error", errors.ProviderAuthFailed),
    (402, "billing_error", errors.ProviderQuotaExhausted),
    (403, "permission_error", errors.ProviderAuthFailed),
    (404, "not_found_error", errors.ProviderNotConfigured),
    (413, "request_too_large", errors.ProviderRejectedRequest),
    (429, "rate_limit_error", errors.ProviderRateLimited),
    (500, "api_error", errors.ProviderError),
    (504, "timeout_error", errors.ProviderTimeout),
    (529, "overloaded_error", errors.ProviderUnavailable),
]
WORDS = [
    ("prompt is too long: 210000 tokens > 200000 maximum", errors.ContextLengthExceeded),
    ("input length and `max_tokens` exceed context limit: 1 + 2 > 2", errors.ContextLengthExceeded),
    ("Output blocked by content filtering policy", errors.ContentFiltered),
    ("Your credit balance is too low to access the Anthropic API.", errors.ProviderQuotaExhausted),
    ("You have reached your specified API usage limits.", errors.ProviderQuotaExhausted),
    ("max_tokens: Field required", errors.ProviderRejectedRequest),
]
NOT_OF_MESSAGES = {"memory_precondition_failed_error", "memory_path_conflict_error", "conflict_error"}


def body(kind: str, message: str = "m", **fields: object) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message, **fields}}).encode()


def test_table_has_every_published_type() -> None:
    assert {kind for _, kind, _ in ROWS} == set(anthropic_errors._BY_TYPE)
    assert set(get_args(ErrorType)) - NOT_OF_MESSAGES <= set(anthropic_errors._BY_TYPE)


@pytest.mark.parametrize(("status", "kind", "made"), ROWS)
def test_error_follows_type_or_status(status: int, kind: str, made: type[errors.PlatformError]) -> None:
    assert type(error_from_response(status, {}, body(kind))) is made
    assert type(error_from_event({"type": kind})) is made
    if status != 402:  # no other format has it
        assert type(error_from_response(status, {}, b"<html>")) is made


@pytest.mark.parametrize(("message", "made"), WORDS)
def test_error_follows_message_if_ambiguous(message: str, made: type[errors.PlatformError]) -> None:
    error = error_from_response(400, {}, body("invalid_request_error", message))
    assert type(error) is made
    assert error.details == ([message] if issubclass(made, errors.RequestRefused) else None)
    # The message decides only for ambiguous types.
    assert type(error_from_response(500, {}, body("api_error", message))) is errors.ProviderError


@pytest.mark.parametrize(("code", "made"), anthropic_errors._BY_CODE.items())
def test_code_has_precedence_over_type(code: str, made: type[errors.PlatformError]) -> None:
    raw = body("rate_limit_error", details={"error_code": code})
    assert type(error_from_response(429, {"retry-after": "5"}, raw)) is made


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limit_error"), (529, "overloaded_error")])
def test_retry_after_is_read(status: int, kind: str) -> None:
    assert error_from_response(status, {"retry-after": "7"}, body(kind)).retry_after == 7
    assert error_from_response(status, {}, body(kind)).retry_after is None
    assert error_from_response(status, {}, body(kind)).wait_seconds == 1


def test_keys_in_message_are_masked() -> None:
    error = error_from_response(400, {}, body("invalid_request_error", "bad sk-ant-api03-abcdefgh"))
    assert error.details == ["bad [masked]"]


@settings(max_examples=40)
@given(st.integers(300, 599), st.recursive(
    st.none() | st.text(max_size=5) | st.integers(),
    lambda inner: st.dictionaries(st.sampled_from(["error", "type", "message", "details", "error_code"]), inner),
))  # fmt: skip
@example(404, None)
def test_any_response_becomes_platform_error(status: int, response: object) -> None:
    error = error_from_response(status, {}, json.dumps(response).encode())
    assert isinstance(error, errors.ProviderFailed | errors.RequestRefused | errors.ProviderNotConfigured)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("temperature: range: 0..1", "temperature"),
        ("messages.0.content: Input should be a valid string", "messages.0.content"),
        ("prompt is too long: 210000 tokens > 200000 maximum", None),
        ("Output blocked by content filtering policy", None),
    ],
)
def test_field_at_start_of_message_is_param(message: str, param: str | None) -> None:
    assert error_from_response(400, {}, body("invalid_request_error", message)).param == param
    assert error_from_event({"type": "invalid_request_error", "message": message}).param == param
