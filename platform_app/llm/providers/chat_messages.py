"""Read the messages of a chat request: the checks that all translations share."""

from collections.abc import Iterator, Mapping
from typing import Any

from platform_app.llm.errors import unsupported


def located_messages(given: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each message with its path.

    Raises:
        ProviderRejectedRequest: there is no message, or one is not an object.
    """
    if not isinstance(given, list) or not given:
        raise unsupported("messages", "must be a list with at least one message")
    for index, message in enumerate(given):
        where = f"messages.{index}"
        if not isinstance(message, dict):
            raise unsupported(where, "must be an object")
        yield where, message


def tool_calls_of(message: Mapping[str, Any], where: str) -> list[Any]:
    """Return the tool calls of an assistant's message.

    Raises:
        ProviderRejectedRequest: the message has audio or a legacy function call, or the calls are not a list.
    """
    if message.get("audio") is not None:
        raise unsupported(f"{where}.audio", "is not available on this model")
    if message.get("function_call") is not None:
        raise unsupported(f"{where}.function_call", "is not available on this model; use tool_calls")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise unsupported(f"{where}.tool_calls", "must be a list")
    return calls
