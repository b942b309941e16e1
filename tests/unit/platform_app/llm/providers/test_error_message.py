"""Kinds 5 to 8: if the status is ambiguous, the message decides. The texts are those of real servers."""

import json
from typing import Any

import pytest

from platform_app import errors
from platform_app.errors import ContentFiltered, ContextLengthExceeded, PlatformError, ProviderQuotaExhausted
from platform_app.llm.errors import UnsupportedByRoute
from platform_app.llm.policies.failure_table import Health, failure_policy_of
from platform_app.llm.providers.anthropic import errors as anthropic_errors
from platform_app.llm.providers.openai import errors as openai_errors

TOO_LONG = [
    "This model's maximum context length is 4097 tokens. However, your messages resulted in 5000 tokens.",
    "This model's maximum context length is 4096 tokens. However, you requested 4200 tokens (200 in the messages, 4000 "
    "in the completion). Please reduce the length of the messages or completion.",
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
    "This endpoint's maximum context length is 131072 tokens. However, you requested about 140000 tokens.",
    "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    "Requested token count exceeds the model's maximum context length of 4096 tokens.",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "The prompt is too long: 9000, model maximum context length: 8192",
    "Input is too long for requested model.",
    "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
    "Your input exceeds the context window of this model. Please adjust your input and try again.",
    "the input length exceeds the context length",
    "the request exceeds the available context size. try increasing the context size or enable context shift",
    "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "input is too large to process. increase the physical batch size",
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 4000 `inputs` tokens",
    "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000",
    "Your request exceeded model token limit: 8192 (requested: 9000)",
    "too many tokens: total number of tokens in the prompt cannot exceed 4081",
    "Please reduce the length of the messages or completion.",
    "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length "
    "of only 4096 tokens, which is not enough.",
    "Current length is 9000 while limit is 8192",
    "Range of input length should be [1, 30720]",
    "Request body too large for gpt-4o model. Max size: 8000 tokens.",
]
FILTERED = [
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
    "Output blocked by content filtering policy",
    "Your request was rejected as a result of our safety system.",
    "Content Exists Risk",
    "Input data may contain inappropriate content.",
    "Your input was flagged by moderation.",
    "Content violates usage guidelines.",
    "The request was blocked due to SAFETY",
    "Failed: PROHIBITED_CONTENT",
    "系统检测到输入或生成内容可能包含不安全或敏感内容",
]
NO_CREDIT = [
    "Insufficient Balance",
    "Insufficient credits. Add more using https://openrouter.ai/credits",
    "You exceeded your current quota, please check your plan and billing details.",
    "Your credit balance is too low to access the Anthropic API.",
    "Account x is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices.",
    "Your account is not active: billing is not active",
    "Your team has run out of credits",
]
PLAIN = [
    "Invalid value for 'temperature': expected at most 2.",
    "max_tokens is too large: 5000. This model supports at most 4096 completion tokens.",
    "messages: at least one message is required",
    "Unsupported parameter: 'max_tokens' is not supported with this model.",
    "Invalid 'tools[0].function.name': string does not match pattern",
]
WIRES = pytest.mark.parametrize("wire", ["openai", "anthropic"])


def refused(wire: str, status: int, words: str, **fields: object) -> PlatformError:
    module: Any = {"openai": openai_errors, "anthropic": anthropic_errors}[wire]
    error: dict[str, object] = {"message": words, **fields}
    if wire == "anthropic":
        error = {"type": "invalid_request_error", **error}
    made: PlatformError = module.error_from_response(status, {}, json.dumps({"error": error}).encode())
    return made


@WIRES
@pytest.mark.parametrize("words", TOO_LONG)
def test_context_length_is_found_in_message(wire: str, words: str) -> None:
    """Kind 8."""
    for status in (400, 413, 422):
        assert type(refused(wire, status, words)) is ContextLengthExceeded
    assert type(openai_errors.error_from_event({"message": words})) is ContextLengthExceeded
    assert type(openai_errors.error_from_response(500, {}, json.dumps({"error": words}).encode())) is (
        ContextLengthExceeded
    ), "llama.cpp says it with a 500"


@WIRES
@pytest.mark.parametrize("words", FILTERED)
def test_content_filter_is_found_in_message(wire: str, words: str) -> None:
    """Kinds 7 and 9."""
    assert type(refused(wire, 400, words)) is ContentFiltered
    assert type(openai_errors.error_from_response(403, {}, json.dumps({"error": words}).encode())) is ContentFiltered


@WIRES
@pytest.mark.parametrize("words", NO_CREDIT)
def test_missing_credit_is_found_in_message(wire: str, words: str) -> None:
    """Kind 6: like a 402, with another status."""
    for status in (400, 412, 402):
        assert type(refused(wire, status, words)) is ProviderQuotaExhausted


@pytest.mark.parametrize("words", NO_CREDIT)
@pytest.mark.parametrize("status", [403, 429])
def test_missing_credit_is_quota_not_rate_limit(status: int, words: str) -> None:
    assert type(openai_errors.error_from_response(status, {}, json.dumps({"error": words}).encode())) is (
        ProviderQuotaExhausted
    )


@WIRES
@pytest.mark.parametrize("words", PLAIN)
def test_other_message_stays_rejected_request(wire: str, words: str) -> None:
    assert type(refused(wire, 400, words)) is errors.ProviderRejectedRequest


@pytest.mark.parametrize("headers", [{"retry-after": "20"}, {}])
def test_quota_with_retry_time_is_rate_limit(headers: dict[str, str]) -> None:
    """Gemini mentions the quota in each of its rate limits."""
    words = "You exceeded your current quota, please check your plan and billing details. Please retry in 33.3s."
    error = openai_errors.error_from_response(429, headers, json.dumps([{"error": {"message": words}}]).encode())
    assert type(error) is errors.ProviderRateLimited


@pytest.mark.parametrize("status", [413, 429])
def test_request_above_rate_limit_is_not_retried(status: int) -> None:
    """Kind 11: no wait can help; an account with another limit may accept the request."""
    words = (
        "Request too large for model `llama` in organization `o` service tier `on_demand` on tokens per minute (TPM): "
        "Limit 6000, Requested 7000, please reduce your message size and try again."
    )
    body = json.dumps({"error": {"message": words, "type": "tokens", "code": "rate_limit_exceeded"}}).encode()
    error = openai_errors.error_from_response(status, {"retry-after": "7"}, body)
    assert type(error) is UnsupportedByRoute
    assert error.wait_seconds is None


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (404, {"message": "No endpoints found that support tool use. To learn more, visit x", "code": 404}, "route"),
        (404, {"message": "No endpoints found that support image input", "code": 404}, "route"),
        (404, {"message": "No endpoints found that can handle the requested parameters.", "code": 404}, "route"),
        (404, {"message": "registry.ollama.ai/library/x does not support tools"}, "route"),
        (404, {"message": "This model doesn't support embeddings"}, "route"),
        (501, {"message": "This server does not support embeddings", "type": "not_supported_error"}, "route"),
        (404, {"message": "No such File object: file-abc", "param": "id"}, "request"),
        (404, {"message": "Image not found at the given URL"}, "request"),
        (404, {"message": "The model `x` does not exist", "param": "model", "code": "model_not_found"}, "operator"),
        (404, {"message": "No endpoints found matching your data policy."}, "operator"),
        (404, {"message": "Not Found"}, "operator"),
        (404, {"message": "Resource not found", "code": "404"}, "operator"),
        (404, {"message": "The API deployment for this resource does not exist.", "code": "X"}, "operator"),
    ],
)
def test_not_found_depends_on_missing_object(status: int, error: dict[str, object], kind: str) -> None:
    """Kind 7."""
    kinds = {
        "route": UnsupportedByRoute,
        "request": errors.ProviderRejectedRequest,
        "operator": errors.ProviderNotConfigured,
    }
    made = openai_errors.error_from_response(status, {}, json.dumps({"error": error}).encode())
    assert type(made) is kinds[kind]
    assert bool(made.details) is (kind != "operator")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"code": 403, "message": "m", "metadata": {"reasons": ["violence"]}}}, ContentFiltered),
        ({"error": {"message": "Your input was flagged for violence"}}, ContentFiltered),
        ({"code": "The caller does not have permission", "error": "Content violates usage guidelines."},
         ContentFiltered),
        ({"error": {"message": "Project `p` does not have access to model `m`"}}, errors.ProviderAuthFailed),
        ({"error": {"message": "Access denied due to Virtual Network/Firewall rules."}}, errors.ProviderAuthFailed),
        ({"error": {"message": "Country, region, or territory not supported"}}, errors.ProviderAuthFailed),
        ({"error": {"message": "Your credit balance is too low"}}, ProviderQuotaExhausted),
    ],
)  # fmt: skip
def test_forbidden_depends_on_reason(body: object, kind: type[PlatformError]) -> None:
    """Kind 7."""
    assert type(openai_errors.error_from_response(403, {}, json.dumps(body).encode())) is kind


HEALTHY = (*range(402, 408), *range(409, 425), 426, 428, 431, 451, 499, 501)


@WIRES
@pytest.mark.parametrize("status", HEALTHY)
def test_rejected_request_has_unknown_health(wire: str, status: int) -> None:
    """Kind 5: no retry, and no count for the breaker."""
    module: Any = {"openai": openai_errors, "anthropic": anthropic_errors}[wire]
    for body in (b"", b"<html>no</html>", b'{"detail": "no"}'):
        verdict = failure_policy_of(module.error_from_response(status, {}, body))
        assert (verdict.retry, verdict.health is Health.FAILS) == (False, False)


@WIRES
@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 529, 530])
def test_server_error_counts_as_failure(wire: str, status: int) -> None:
    """Kind 5, reversed."""
    module: Any = {"openai": openai_errors, "anthropic": anthropic_errors}[wire]
    assert failure_policy_of(module.error_from_response(status, {}, b"<html>down</html>")).health is Health.FAILS


@pytest.mark.parametrize("kind", ["invalid_request_error", "BadRequestError", "UnprocessableEntityError"])
def test_server_error_about_request_is_rejection(kind: str) -> None:
    """Kind 5: some servers return a 500 for everything."""
    body = json.dumps({"error": {"message": "m", "type": kind}}).encode()
    assert type(openai_errors.error_from_response(500, {}, body)) is errors.ProviderRejectedRequest
    assert type(openai_errors.error_from_event(json.loads(body))) is errors.ProviderRejectedRequest
