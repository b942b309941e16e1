"""Read a request of Anthropic's Messages API as a chat completion's."""

from collections.abc import Mapping
from typing import Any


def chat_of_messages(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a chat completion's request, but model and stream.

    Raises:
        UnsupportedByProvider: a chat completion cannot express the request; the error names the field.
    """
    raise NotImplementedError(sorted(body))
