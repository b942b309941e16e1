"""Requests translated to Anthropic's, checked against the type of the official package."""

from typing import Any

import orjson
import pytest
from anthropic.types import message_create_params
from pydantic import TypeAdapter

from platform_app.errors import ProviderRejectedRequest
from platform_app.llm.providers.anthropic.chat.request import (
    messages_request,
)

PARAMS: TypeAdapter[Any] = TypeAdapter(message_create_params.MessageCreateParamsNonStreaming)
"""The request type of the official package."""
USER = {"role": "user", "content": "hi"}
TURN = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
WEATHER = {
    "name": "weather",
    "description": "What the sky does",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}
CLOSED = {"type": "object", "additionalProperties": False}
PNG = "data:image/png;base64,iVBORw0KGgo="


def translated(model: str = "claude", **body: Any) -> dict[str, Any]:
    """Return the request as it is sent."""
    request: dict[str, Any] = orjson.loads(
        orjson.dumps(messages_request(model, {"messages": [USER], **body}, stream=False))
    )
    PARAMS.validate_python(request)
    return request


def refused(model: str = "claude", **body: Any) -> str:
    with pytest.raises(ProviderRejectedRequest) as caught:
        messages_request(model, {"messages": [USER], **body}, stream=False)
    assert caught.value.details is not None
    return caught.value.details[0]
