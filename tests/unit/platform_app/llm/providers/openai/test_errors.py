"""OpenAI's errors as ours: every row of the table, and no secret in a message."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app import errors
from platform_app.llm import errors as provider_errors
from platform_app.llm.providers.openai import errors as openai_errors
from platform_app.llm.providers.openai.errors import error_from_event, error_from_response

BY_STATUS = [
    (300, errors.ProviderBadResponse),
    (302, errors.ProviderBadResponse),
    (400, errors.ProviderRejectedRequest),
    (401, errors.ProviderAuthFailed),
    (402, errors.ProviderQuotaExhausted),
    (403, errors.ProviderAuthFailed),
    (404, errors.ProviderNotConfigured),
    (405, errors.ProviderNotConfigured),
    (406, errors.ProviderRejectedRequest),
    (407, errors.ProviderNotConfigured),
    (408, errors.ProviderTimeout),
    (409, errors.ProviderRejectedRequest),
    (410, errors.ProviderNotConfigured),
    (412, errors.ProviderRejectedRequest),
    (413, errors.ProviderRejectedRequest),
    (414, errors.ProviderRejectedRequest),
    (415, errors.ProviderRejectedRequest),
    (418, errors.ProviderRejectedRequest),
    (421, errors.ProviderNotConfigured),
    (422, errors.ProviderRejectedRequest),
    (423, errors.ProviderRejectedRequest),
    (424, errors.ProviderRejectedRequest),
    (425, errors.ProviderUnavailable),
    (426, errors.ProviderNotConfigured),
    (429, errors.ProviderRateLimited),
    (431, errors.ProviderRejectedRequest),
    (451, errors.ProviderRejectedRequest),
    (498, errors.ProviderRateLimited),
    (500, errors.ProviderError),
    (501, provider_errors.UnsupportedByRoute),
    (502, errors.ProviderError),
    (503, errors.ProviderUnavailable),
    (504, errors.ProviderTimeout),
    (520, errors.ProviderError),
    (521, errors.ProviderUnavailable),
    (522, errors.ProviderUnavailable),
    (523, errors.ProviderUnavailable),
    (524, errors.ProviderTimeout),
    (529, errors.ProviderUnavailable),
    (599, errors.ProviderError),
]
BY_CODE = [
    (400, "context_length_exceeded", errors.ContextLengthExceeded),
    (400, "string_above_max_length", errors.ContextLengthExceeded),
    (400, "content_filter", errors.ContentFiltered),
    (400, "content_policy_violation", errors.ContentFiltered),
    (429, "insufficient_quota", errors.ProviderQuotaExhausted),
    (429, "billing_hard_limit_reached", errors.ProviderQuotaExhausted),
    (400, "billing_hard_limit_reached", errors.ProviderQuotaExhausted),
    (429, "rate_limit_exceeded", errors.ProviderRateLimited),
    (503, "server_is_overloaded", errors.ProviderUnavailable),
    (500, "server_is_overloaded", errors.ProviderUnavailable),
    (500, "server_error", errors.ProviderError),
    (400, "invalid_api_key", errors.ProviderAuthFailed),
    (400, "model_not_found", errors.ProviderNotConfigured),
    (400, "never_heard_of", errors.ProviderRejectedRequest),
    (400, "tokens_limit_reached", errors.ContextLengthExceeded),
    (400, "3051", errors.ContextLengthExceeded),
    (400, "moderation_blocked", errors.ContentFiltered),
    (400, "data_inspection_failed", errors.ContentFiltered),
    (400, "1301", errors.ContentFiltered),
    (429, "1113", errors.ProviderQuotaExhausted),
    (400, "ResponsibleAIPolicyViolation", errors.ContentFiltered),
    (400, "model_decommissioned", errors.ProviderNotConfigured),
    (400, "model_not_available", errors.ProviderNotConfigured),
    (400, "OperationNotSupported", errors.ProviderNotConfigured),
    (400, "Arrearage", errors.ProviderQuotaExhausted),
    # Whatever the code, a 401 is for the operator to fix.
    (401, "rate_limit_exceeded", errors.ProviderAuthFailed),
    (403, "context_length_exceeded", errors.ProviderAuthFailed),
]


def body(**fields: object) -> bytes:
    return json.dumps({"error": {"message": "m", "type": "t", "param": None, "code": None, **fields}}).encode()


def test_test_tables_cover_every_row() -> None:
    assert {status for status, _ in BY_STATUS} >= set(provider_errors.BY_STATUS)
    assert {code for _, code, _ in BY_CODE} >= set(openai_errors._BY_CODE)


@pytest.mark.parametrize(("status", "kind"), BY_STATUS)
def test_error_follows_status(status: int, kind: type[errors.PlatformError]) -> None:
    assert type(error_from_response(status, {}, body())) is kind
    assert type(error_from_response(status, {}, b"<html>")) is kind


@pytest.mark.parametrize(("status", "code", "kind"), BY_CODE)
def test_error_follows_code(status: int, code: str, kind: type[errors.PlatformError]) -> None:
    assert type(error_from_response(status, {}, body(code=code))) is kind


def test_exhausted_quota_in_type_is_found() -> None:
    assert type(error_from_response(429, {}, body(type="insufficient_quota"))) is errors.ProviderQuotaExhausted


@pytest.mark.parametrize(("_status", "code", "kind"), BY_CODE[:12])
def test_error_event_follows_code_or_type(_status: int, code: str, kind: type[errors.PlatformError]) -> None:
    assert type(error_from_event({"code": code})) is kind
    assert type(error_from_event({"type": code})) is kind


def test_azure_inner_error_is_used() -> None:
    raw = body(code="BadRequest", innererror={"code": "ResponsibleAIPolicyViolation"})
    assert type(error_from_response(400, {}, raw)) is errors.ContentFiltered


@pytest.mark.parametrize(("status", "kind"), BY_STATUS[2:])
def test_code_with_status_is_used(status: int, kind: type[errors.PlatformError]) -> None:
    assert type(error_from_event({"code": status})) is kind


@pytest.mark.parametrize(
    "event",
    [
        None,
        "text",
        5,
        [],
        {},
        {"code": 5},
        {"code": 600},
        {"code": True},
        {"code": ["x"]},
        {"innererror": 5},
        {"message": {"a": 1}},
    ],
)
def test_other_error_event_is_provider_error(event: object) -> None:
    assert type(error_from_event(event)) is errors.ProviderError


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"[5]",
        b'{"error": null}',
        b'{"error": []}',
        b"{",
        b"\xff",
        b'"\\ud800"',
    ],
)
def test_unexpected_body_falls_back_to_status(raw: bytes) -> None:
    assert type(error_from_response(429, {}, raw)) is errors.ProviderRateLimited
    assert error_from_response(400, {}, raw).details is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("1.5", 1.5),
        (" 3 ", 3),
        ("60", 60),
        ("61", 60),
        ("1e9", 60),
        ("inf", 60),
        ("-1", None),
        ("-inf", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("Mon, 99 Foo 2030 00:00:00 GMT", None),
        ("Fri, 31 Dec 2099 23:59:59 GMT", 60),
        ("Fri, 31 Dec 2099 23:59:59 -0000", None),  # of an unknown zone
    ],
)
def test_retry_after_is_read(text: str, seconds: float | None) -> None:
    error = error_from_response(429, {"retry-after": text}, b"")
    assert error.retry_after == seconds
    assert error.wait_seconds == (1 if seconds is None else seconds)  # callers still get a time to wait


def test_error_in_list_is_read() -> None:
    """Google's OpenAI endpoint does that."""
    error = error_from_response(400, {}, b"[" + body(message="too hot") + b"]")
    assert error.details == ["too hot"]


def test_retry_after_date_is_read() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    retry_after = error_from_response(503, {"retry-after": at}, b"").retry_after
    assert retry_after is not None
    assert 17 <= retry_after <= 20


@given(st.text(max_size=40))
def test_any_retry_after_is_within_cap(text: str) -> None:
    wait = error_from_response(429, {"retry-after": text}, b"").wait_seconds
    assert wait is not None
    assert 0 <= wait <= provider_errors.MAX_RETRY_AFTER_SECONDS


@pytest.mark.parametrize("status", [400, 401, 500, 504])
def test_permanent_error_has_no_retry_after(status: int) -> None:
    assert error_from_response(status, {"retry-after": "7"}, b"").wait_seconds is None


def test_exhausted_quota_should_not_be_retried() -> None:
    error = error_from_response(429, {"retry-after": "7"}, body(code="insufficient_quota"))
    assert error.retry_after is None


SECRET_WORDS = "Incorrect API key provided: sk-proj-abc123XYZ_789. Ask pk-live-12345678 or fbp_live_0123456789AB_zzzz."


@pytest.mark.parametrize(("status", "kind"), BY_STATUS)
def test_provider_message_reaches_only_acting_callers(status: int, kind: type[errors.PlatformError]) -> None:
    error = error_from_response(status, {}, body(message="temperature must be at most 2"))
    words = "temperature must be at most 2"
    refused = issubclass(kind, errors.RequestRefused)
    assert error.details == ([words] if refused else None)
    assert error.provider_message == (None if refused else words), "the log has them"


@pytest.mark.parametrize("status", [400, 401, 403, 422, 429, 500])
def test_keys_in_provider_message_are_masked(status: int) -> None:
    words = SECRET_WORDS if status not in (400, 422) else SECRET_WORDS.replace("Incorrect API key", "Wrong user")
    error = error_from_response(status, {}, body(message=words))
    shown = f"{error} {error.message} {error.details}"
    for part in ("abc123", "proj", "12345678", "0123456789AB", "zzzz"):
        assert part not in shown
    if status in (400, 422):
        assert error.details == ["Wrong user provided: [masked] Ask [masked] or [masked]"]


def test_long_message_is_masked_before_truncation() -> None:
    error = error_from_response(400, {}, body(message="x" * 495 + " sk-proj-abcdefghijkl"))
    assert error.details is not None
    assert len(error.details[0]) <= 500
    assert "sk-" not in error.details[0]


_ANSWERS = st.recursive(
    st.none() | st.text(max_size=9) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["error", "code", "type", "message"]), inner)
    ),
)


@given(st.integers(300, 599), _ANSWERS)
def test_any_response_becomes_platform_error(status: int, response: Any) -> None:
    error = error_from_response(status, {}, json.dumps(response).encode())
    assert isinstance(error, errors.ProviderFailed | errors.RequestRefused | errors.ProviderNotConfigured)
    assert error.status in (400, 502, 503, 504)


def test_gateway_errors_have_details() -> None:
    assert provider_errors.unavailable().retry_after is None
    assert provider_errors.timed_out("no data for 3 s").details == ["no data for 3 s"]
    assert provider_errors.bad_response("not JSON").details == ["not JSON"]


def test_param_reaches_only_acting_callers() -> None:
    refused = error_from_response(400, {}, body(param="messages[0].content", code="invalid_value"))
    assert refused.param == "messages[0].content"
    assert error_from_event({"code": "content_filter", "param": "prompt"}).param == "prompt"
    assert error_from_response(500, {}, body(param="temperature")).param is None
    assert error_from_response(401, {}, body(param="temperature")).param is None


@pytest.mark.parametrize(
    ("param", "told"),
    [(None, None), ("", None), (7, None), (["a"], None), ("x" * 300, "x" * 200), ("sk-live-0123456789", "[masked]")],
)
def test_param_is_truncated_and_masked(param: object, told: str | None) -> None:
    assert error_from_response(400, {}, body(param=param)).param == told
