"""Errors whose status says little: whose fault they are, what they say, and when to retry. The texts are those of real
servers."""

import json
from typing import Any

import pytest

from platform_app import errors
from platform_app.errors import (
    ContextLengthExceeded,
    PlatformError,
    ProviderAuthFailed,
    ProviderError,
    ProviderNotConfigured,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRejectedRequest,
    ProviderUnavailable,
)
from platform_app.llm.errors import UnsupportedByRoute
from platform_app.llm.http.sse import SseParser
from platform_app.llm.providers.anthropic import errors as anthropic_errors
from platform_app.llm.providers.error_body import is_error_body
from platform_app.llm.providers.openai.errors import error_from_event, error_from_response


def refused(error: object, status: int = 400, headers: dict[str, str] | None = None) -> PlatformError:
    return error_from_response(status, headers or {}, json.dumps(error).encode())


OF_THE_OPERATOR: list[tuple[type[PlatformError], str]] = [
    (ProviderAuthFailed, "API key not valid. Please pass a valid API key."),
    (ProviderAuthFailed, "API key expired. Please renew the API key."),
    (ProviderAuthFailed, "Missing or invalid Authorization header."),
    (ProviderAuthFailed, "Incorrect API key provided: xa***MM. You can obtain an API key from https://console.x.ai."),
    (ProviderAuthFailed, "This organization has been disabled."),
    (ProviderNotConfigured, "Model Not Exist"),
    (ProviderNotConfigured, "deepseek/deepseek-coder is not a valid model ID"),
    (ProviderNotConfigured, "Invalid model: mistral-foo"),
    (ProviderNotConfigured, "Invalid model 'x'. Permitted models can be found in the documentation."),
    (ProviderNotConfigured, "invalid model ID"),
    (ProviderNotConfigured, "The provided model identifier is invalid."),
    (ProviderNotConfigured, "The model `mixtral-8x7b` has been decommissioned and is no longer supported."),
    (ProviderNotConfigured, "Unable to access non-serverless model x."),
    (ProviderNotConfigured, "User location is not supported for the API use."),
    (ProviderNotConfigured, "Invocation of model ID x with on-demand throughput isn\u2019t supported."),
]


@pytest.mark.parametrize(("kind", "words"), OF_THE_OPERATOR)
def test_operators_fault_in_400_is_hidden_and_falls_back(kind: type[PlatformError], words: str) -> None:
    openai = refused({"error": {"message": words, "type": "invalid_request_error"}})
    raw = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": words}}).encode()
    for error in (openai, anthropic_errors.error_from_response(400, {}, raw)):
        assert type(error) is kind
        assert error.details is None
        assert error.provider_message


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (ProviderNotConfigured, {"code": "OperationNotSupported", "message": "The operation does not work with it."}),
        (ProviderNotConfigured, {"code": "model_not_available", "message": "Please create an endpoint."}),
        (ProviderNotConfigured, {"type": "invalid_model", "message": "m", "code": "1500"}),
        (ProviderQuotaExhausted, {"code": "Arrearage", "message": "Access denied, your account must be in order."}),
    ],
)
def test_operators_fault_is_found_by_code(kind: type[PlatformError], error: object) -> None:
    assert type(refused({"error": error})) is kind


@pytest.mark.parametrize(
    "words",
    [
        "Invalid model parameters: temperature", "The tool 'invalid' has no api key description",
        "Unknown parameter: 'moderation'.", "Unrecognized request argument supplied: guardrail_config",
        "[{'msg': 'Extra inputs are not permitted', 'input': 'insufficient credits'}]",
        "[{'msg': 'Input should be a number', 'input': 'prompt is too long'}]",
    ],
)  # fmt: skip
def test_callers_fault_stays_rejected_request(words: str) -> None:
    error = refused({"object": "error", "message": words, "type": "BadRequestError", "code": 400})
    assert type(error) is ProviderRejectedRequest


@pytest.mark.parametrize(
    ("param", "kind"),
    [
        ("user", ProviderRejectedRequest), ("prompt_cache_key", ProviderRejectedRequest),
        ("metadata", ProviderRejectedRequest), ("messages[1].tool_calls[0].id", ProviderRejectedRequest),
        ("input[3].call_id", ProviderRejectedRequest), ("input", ContextLengthExceeded),
        ("messages[1].content", ContextLengthExceeded), ("messages.[1].content[0].text", ContextLengthExceeded),
        ("input[2]", ContextLengthExceeded), (None, ContextLengthExceeded),
    ],
)  # fmt: skip
def test_long_text_is_context_only_in_content(param: str | None, kind: type[PlatformError]) -> None:
    error = {"message": "string too long", "type": "invalid_request_error", "param": param}
    assert type(refused({"error": {**error, "code": "string_above_max_length"}})) is kind


@pytest.mark.parametrize(
    "words",
    [
        "The input token count is 40000 but model only supports up to 32768.",
        "Number of input tokens exceeds maximum length.", "Prompt exceeds max length",
        "length of prompt_tokens (50000) must be less than max_seq_len (32768).",
        "Total tokens of image and text exceed max message tokens.",
    ],
)  # fmt: skip
def test_more_words_for_context_length_are_found(words: str) -> None:
    assert type(refused({"error": {"message": words}})) is ContextLengthExceeded


@pytest.mark.parametrize(
    "error",
    [
        {"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None},
        {"error": {"code": "AccountOverdueError", "message": "Your account has an overdue balance."}},
        {"code": 403, "reason": "NOT_ENOUGH_BALANCE", "message": "not enough balance"},
    ],
)
def test_forbidden_without_credit_is_quota(error: object) -> None:
    assert type(refused(error, 403)) is ProviderQuotaExhausted


def test_model_without_tools_falls_back() -> None:
    words = "registry.ollama.ai/library/gemma:latest does not support tools"
    assert type(refused({"error": {"message": words, "type": "api_error"}})) is UnsupportedByRoute


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": "Input validation error: `x`", "error_type": "validation"}, ProviderRejectedRequest),
        ({"error": "Model is overloaded", "error_type": "overloaded"}, ProviderUnavailable),
        ({"error": {"message": "bad", "http_status_code": 422}}, ProviderRejectedRequest),
        ({"error": {"message": "bad", "http_code": "400"}}, ProviderRejectedRequest),
        ({"message": "bad", "type": "ValidationException"}, ProviderRejectedRequest),
        ({"error": {"type": "InvalidRequestError", "message": "bad"}}, ProviderRejectedRequest),
        ({"error": {"type": "Bad Request", "message": "bad"}}, ProviderRejectedRequest),
        ({"error": {"type": "ValueError", "message": "bad"}}, ProviderRejectedRequest),
        ({"error": {"status": "INVALID_ARGUMENT", "message": "bad"}}, ProviderRejectedRequest),
        ({"error": {"status": "RESOURCE_EXHAUSTED", "message": "x"}}, ProviderRateLimited),
        ({"error": {"status": "UNAVAILABLE", "message": "x"}}, ProviderUnavailable),
        ({"code": 500, "msg": "system busy", "success": False}, ProviderError),
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, ProviderQuotaExhausted),
    ],
)
def test_error_in_200_names_whose_fault_it_is(event: dict[str, Any], kind: type[PlatformError]) -> None:
    assert is_error_body(event)
    error = error_from_event(event)
    assert type(error) is kind
    assert error.details or error.provider_message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error_code": 336100, "error_msg": "busy"}, True),
        ({"success": False, "message": "no"}, True),
        ({"Message": "An error has occurred."}, True),
        ({"message": "m", "status": 500}, True),
        ({"status": "queued", "message": "Request queued"}, False),
        ({"status": "processing", "message": "m", "progress": 0.5}, False),
        ({"base_resp": {"status_code": 0, "status_msg": ""}, "id": "x"}, False),
        ({"success": True, "message": "m"}, False),
    ],
)
def test_error_bodies_differ_from_progress(body: dict[str, Any], expected: bool) -> None:
    assert is_error_body(body) is expected


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "20000"}, 20.0),
        ({"x-ms-retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"}, None),
        ({"retry-after-ms": "nan"}, None),
    ],
)
def test_retry_time_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert refused({"error": {"message": "x"}}, 429, headers).retry_after == seconds


def test_retry_time_in_body_is_read() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    error = refused([{"error": {"code": 429, "message": "quota", "details": [{}, info]}}], 429)
    assert (type(error), error.retry_after) == (errors.ProviderRateLimited, 34.5)


@pytest.mark.parametrize(
    ("lines", "data"),
    [
        (b'{"detail": "busy"}', [b'{"detail": "busy"}']),
        (b'{"code": 429, "message": "slow down"}', [b'{"code": 429, "message": "slow down"}']),
        (b'[{"error": {"code": 429}}]', [b'[{"error": {"code": 429}}]']),
        (b"error: upstream died", [b"error: upstream died"]),
        (b"event: error\ndata: worker crashed", [b"error: worker crashed"]),
        (b'event: error\ndata: {"message": "x"}', [b'{"error":{"message": "x"}}']),
        (b'event: error\ndata: {"type": "error"}', [b'{"type": "error"}']),
        (b"event: ping\ndata: x", [b"x"]),
        (b'{"message": {"content": "x"}}', []),
        (b'{"choices": [{"message": {}, "code": 1}]}', []),
        (b"[1]", []),
    ],
)
def test_error_lines_of_streams_are_read(lines: bytes, data: list[bytes]) -> None:
    parser = SseParser()
    assert parser.feed(lines + b"\n\n") == data
    assert parser.feed(b"data: next\n\n") == [b"next"]
