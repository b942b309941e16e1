"""Read objects of the Responses API: the status of a response, its usage, and the texts of its items.

docs: https://platform.openai.com/docs/api-reference/responses/object.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from platform_app.errors import PlatformError
from platform_app.llm import errors
from platform_app.llm.providers.error_body import is_error_body
from platform_app.llm.providers.openai_responses.errors import error_of_event, error_of_response, filtered

Fields = Mapping[str, Any]
CALLS = ("function_call", "custom_tool_call")
FAILED = ("failed", "cancelled")
_INCOMPLETE: Mapping[str, str] = {"max_output_tokens": "length", "content_filter": "content_filter"}


def require_response(value: object) -> dict[str, Any]:
    """Return a whole response that did not fail.

    Raises:
        ProviderFailed, RequestRefused: it is an error, has failed, or is not a response.
        ContentFiltered: a content filter left no output.
    """
    if isinstance(value, list) and value and isinstance(value[0], dict) and is_error_body(value[0]):
        raise error_of_event({"error": value[0].get("error") or value[0]})
    if not isinstance(value, dict):
        raise errors.bad_response("the response is not an object")
    if value.get("status") in FAILED and value.get("object") in (None, "response"):
        raise error_of_response(value)
    if not isinstance(value.get("output"), list):
        if is_error_body(value):
            raise error_of_event(value)
        raise _no_output(value)
    if is_emptied(value):
        raise filtered()
    return value


def _no_output(value: Fields) -> PlatformError:
    if incomplete_reason(value) == "content_filter":
        return filtered()
    return errors.bad_response("the response is not a Responses object")


def is_emptied(response: Fields) -> bool:
    """Return whether a content filter left a response without any content."""
    return incomplete_reason(response) == "content_filter" and not any(
        item.get("type") != "reasoning" for item in items_of(response)
    )


def incomplete_reason(response: Fields) -> str | None:
    """Return why a response is incomplete; None if it is not, or gives no reason."""
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return reason if isinstance(reason, str) else None


def finish_reason(response: Fields) -> str:
    """Return the finish reason of a chat completion for a response that has ended."""
    if response.get("status") == "incomplete" or incomplete_reason(response) is not None:
        return _INCOMPLETE.get(incomplete_reason(response) or "", "length")
    return "tool_calls" if any(item.get("type") in CALLS for item in items_of(response)) else "stop"


def items_of(response: Fields) -> Iterator[dict[str, Any]]:
    """Yield the items of the output, without values that are not objects."""
    output = response.get("output")
    for item in output if isinstance(output, list) else ():
        if isinstance(item, dict):
            yield item


def parts_of(item: Fields, field: str, kind: str) -> Iterator[dict[str, Any]]:
    """Yield the parts of one type in a list of an item: `content` or `summary`."""
    listed = item.get(field)
    for part in listed if isinstance(listed, list) else ():
        if isinstance(part, dict) and part.get("type") == kind:
            yield part


def text_in(holder: Fields, name: str) -> str:
    """Return a text member; empty if it is missing or not a text."""
    value = holder.get(name)
    return value if isinstance(value, str) else ""
