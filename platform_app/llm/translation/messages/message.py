"""Write a whole chat completion as a message of Anthropic's."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import orjson

from platform_app.llm import errors
from platform_app.llm.codecs import lenient_json
from platform_app.llm.responses import ModelResponse
from platform_app.llm.translation.messages.ending import ending_of, usage_of, was_cut
from platform_app.llm.translation.messages.segments import Segments
from platform_app.llm.usage.counts import TokenUsage

Fields = dict[str, Any]


def message_json(response: ModelResponse, model: str, usage: TokenUsage | None) -> bytes:
    """Return the message as JSON, with the first choice of a chat completion.

    Args:
        response: the chat completion.
        model: the name of the model that the client reads.
        usage: the token counts.

    Raises:
        ProviderBadResponse: the arguments of a call are not a JSON object, or are nested too deeply.
        ProviderError: the provider broke the response off.
    """
    choice = response.body["choices"][0]
    choice = choice if isinstance(choice, dict) else {}
    segments, cut = Segments(), was_cut(choice)
    segments.add(response.message)
    for segment in segments.all:
        list(segment.ending(cut))
    message = {
        **envelope(response.id, model),
        "content": [segment.block(cut) for segment in segments.all],
        **ending_of(choice, segments),
        "usage": usage_of(usage),
    }
    return _written(message)


def envelope(message_id: str | None, model: str) -> Fields:
    """Return the first members of a message."""
    return {
        "id": message_id or f"msg_{uuid4().hex[:24]}", "type": "message", "role": "assistant", "model": model,
    }  # fmt: skip


def _written(message: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(message)
    except orjson.JSONEncodeError:  # half a surrogate pair in a text, which needs another writer
        pass
    try:
        content = [
            {**block, "input": orjson.loads(orjson.dumps(block["input"]))} if "input" in block else block
            for block in message["content"]
        ]
        return lenient_json.dumps({**message, "content": content})
    except ValueError:
        raise errors.bad_response("the response is nested too deeply") from None
