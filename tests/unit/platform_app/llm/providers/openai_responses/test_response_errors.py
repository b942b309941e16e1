"""Errors within a 200 of the Responses API, by their code."""

from typing import Any

import pytest

from platform_app.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    PlatformError,
    ProviderError,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRejectedRequest,
    ProviderUnavailable,
)
from platform_app.llm.providers.openai_responses.errors import error_of_event, error_of_response

BY_CODE: dict[str, type[PlatformError]] = {
    "server_error": ProviderError,
    "rate_limit_exceeded": ProviderRateLimited,
    "insufficient_quota": ProviderQuotaExhausted,
    "context_length_exceeded": ContextLengthExceeded,
    "server_is_overloaded": ProviderUnavailable,
    "invalid_prompt": ProviderRejectedRequest,
    "bio_policy": ContentFiltered,
    "content_filter": ContentFiltered,
    "image_content_policy_violation": ContentFiltered,
    "invalid_image_url": ProviderRejectedRequest,
    "failed_to_download_image": ProviderRejectedRequest,
    "vector_store_timeout": ProviderError,
    "of_tomorrow": ProviderError,
}


@pytest.mark.parametrize(("code", "kind"), BY_CODE.items())
def test_code_has_same_error_in_every_place(code: str, kind: type[PlatformError]) -> None:
    error = {"code": code, "message": "m", "param": None}
    assert type(error_of_response({"status": "failed", "error": error})) is kind
    assert type(error_of_event({"type": "error", "sequence_number": 5, **error})) is kind
    assert type(error_of_event({"type": "error", "error": error})) is kind


def test_prompt_that_policy_refuses_is_filtered() -> None:
    message = "Invalid prompt: your prompt was flagged as potentially violating our usage policy."
    error = error_of_response({"status": "failed", "error": {"code": "invalid_prompt", "message": message}})
    assert type(error) is ContentFiltered
    assert error.details == [message]


@pytest.mark.parametrize("error", [None, "text", {}, {"code": None}])
def test_failed_response_without_code_is_provider_error(error: Any) -> None:
    assert type(error_of_response({"status": "failed", "error": error})) is ProviderError
    assert type(error_of_response({"status": "cancelled"})) is ProviderError
