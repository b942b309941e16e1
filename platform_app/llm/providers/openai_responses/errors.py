"""Turn failures of the Responses API into ours, with the table of openai/errors.py.

An HTTP error has OpenAI's body. Within a 200 an error is in one of three places: an event `error`, whose fields are at
its top level or in `error`; the `error` of a response with status `failed`; a response that a content filter emptied.
"""

from collections.abc import Mapping
from typing import Any

from platform_app.errors import ContentFiltered, PlatformError, ProviderError, ProviderRejectedRequest
from platform_app.llm.errors import make_error
from platform_app.llm.providers.error_body import error_body_of
from platform_app.llm.providers.openai.errors import error_from_event, kind_of_error

_BY_CODE: Mapping[str, type[PlatformError]] = {
    "bio_policy": ContentFiltered,
    "misalignment_policy_violation": ContentFiltered,
    "image_content_policy_violation": ContentFiltered,
    "cyber_policy": ContentFiltered,
    "vector_store_timeout": ProviderError,
    "data_residency_mismatch": ProviderRejectedRequest,
}
"""Codes of a failed response that no other format has."""
_ABOUT_IMAGES = "image"
"""All other codes with this part say that an image of the request is not valid."""


def error_of_event(event: Mapping[str, Any]) -> PlatformError:
    """Return the error of an event `error`, or of any object that is an error body."""
    inner = event.get("error")
    if isinstance(inner, Mapping) or event.get("type") != "error":
        return _coded(inner if isinstance(inner, Mapping) else {}) or error_from_event(event)
    # The type only names the event; everything else is the error.
    fields = {name: value for name, value in event.items() if name not in ("type", "sequence_number")}
    return _coded(fields) or error_from_event({"error": fields})


def error_of_response(response: Mapping[str, Any]) -> PlatformError:
    """Return the error of a response whose status is `failed` or `cancelled`."""
    error = response.get("error")
    if not isinstance(error, Mapping):
        return make_error(ProviderError, f"the response has status {str(response.get('status'))[:40]}")
    return _coded(error) or error_from_event({"error": error})


def filtered() -> PlatformError:
    """Return the error of a response that a content filter emptied."""
    return make_error(ContentFiltered, "the provider returned no content (incomplete_details: content_filter)")


def _coded(error: Mapping[str, Any]) -> PlatformError | None:
    code = error.get("code")
    if not isinstance(code, str):
        return None
    failure = error_body_of({"error": error})
    kind = _BY_CODE.get(code)
    if code == "invalid_prompt":  # also for a prompt that OpenAI's policy refuses, which the message says
        kind = kind_of_error(400, failure)
    elif kind is None and _ABOUT_IMAGES in code:
        kind = ProviderRejectedRequest
    return None if kind is None else make_error(kind, failure.message, param=error.get("param"))
