"""Translate a request of any format to a chat completion's body."""

from collections.abc import Callable, Mapping
from typing import Any

from platform_app.llm.errors import UnsupportedByProvider, unsupported
from platform_app.llm.field_types import TRANSLATED, wrong_types
from platform_app.llm.formats import ApiFormat
from platform_app.llm.translation.messages.request import chat_of_messages
from platform_app.llm.translation.responses.request import chat_of_responses

_READERS: Mapping[ApiFormat, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    ApiFormat.RESPONSES: chat_of_responses,
    ApiFormat.MESSAGES: chat_of_messages,
}


def chat_request(body: Mapping[str, Any], api_format: ApiFormat) -> Mapping[str, Any]:
    """Return the fields of a chat completion's request, but model and stream.

    Raises:
        UnsupportedByProvider: a chat completion cannot express the request; the error names the field.
    """
    try:
        for name, words in wrong_types(body, TRANSLATED[api_format]):
            raise unsupported(name, f"must be {words}")
        return _READERS[api_format](body)
    except UnsupportedByProvider as error:
        error.names_client_fields = True
        raise
