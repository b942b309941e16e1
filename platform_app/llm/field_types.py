"""The JSON types of the clients' fields.

The gateway checks a field that it reads or translates. A field that it forwards to a provider of the same format is the
provider's to check.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from platform_app.llm.formats import ApiFormat


class JsonType(NamedTuple):
    """The types that a field may have, beside null."""

    types: tuple[type, ...]
    words: str
    """The types in words for people."""
    of: "JsonType | None" = None
    """The type of a list's items."""

    def allows(self, value: object) -> bool:
        """Return whether a value is null or has one of the types. JSON's true and false are no numbers."""
        if value is None:
            return True
        return isinstance(value, self.types) and (not isinstance(value, bool) or bool in self.types)


TEXT = JsonType((str,), "a text")
FLAG = JsonType((bool,), "true or false")
WHOLE = JsonType((int,), "a whole number")
NUMBER = JsonType((int, float), "a number")
OBJECT = JsonType((dict,), "an object")
LIST = JsonType((list,), "a list")
TEXT_OR_LIST = JsonType((str, list), "a text or a list")
TEXT_OR_OBJECT = JsonType((str, dict), "a text or an object")
OBJECT_OR_LIST = JsonType((dict, list), "an object or a list")
TEXTS = JsonType((list,), "a list of texts", TEXT)
OBJECTS = JsonType((list,), "a list of objects", OBJECT)

_RESPONSES_READ: Mapping[str, JsonType] = {
    "background": FLAG, "include": LIST, "max_output_tokens": WHOLE, "metadata": OBJECT, "moderation": OBJECT,
    "previous_response_id": TEXT, "prompt": OBJECT, "prompt_cache_key": TEXT, "prompt_cache_options": OBJECT,
    "reasoning": OBJECT, "service_tier": TEXT, "store": FLAG, "tools": OBJECTS,
}  # fmt: skip
_MESSAGES_READ: Mapping[str, JsonType] = {
    "max_tokens": WHOLE, "metadata": OBJECT, "service_tier": TEXT, "speed": TEXT, "tools": OBJECTS,
}  # fmt: skip
READ: Mapping[ApiFormat, Mapping[str, JsonType]] = {
    ApiFormat.CHAT: {"metadata": OBJECT, "tools": OBJECTS},
    ApiFormat.RESPONSES: _RESPONSES_READ,
    ApiFormat.MESSAGES: _MESSAGES_READ,
}
"""The fields that the gateway reads in every request: for limits, sessions, and what may reach a provider. The edges
check `model`, `stream`, `input` and `messages` themselves."""
TRANSLATED: Mapping[ApiFormat, Mapping[str, JsonType]] = {
    ApiFormat.RESPONSES: {
        **_RESPONSES_READ,
        "access_programs": OBJECT_OR_LIST, "background_options": OBJECT, "context_management": OBJECT_OR_LIST,
        "conversation": TEXT_OR_OBJECT, "image": OBJECT, "input": TEXT_OR_LIST, "instructions": TEXT_OR_LIST,
        "max_tool_calls": WHOLE, "parallel_tool_calls": FLAG, "prompt_cache_retention": TEXT,
        "safety_identifier": TEXT, "stream_options": OBJECT, "temperature": NUMBER, "text": OBJECT,
        "tool_choice": TEXT_OR_OBJECT, "top_logprobs": WHOLE, "top_p": NUMBER, "truncation": TEXT, "user": TEXT,
    },
    ApiFormat.MESSAGES: {
        **_MESSAGES_READ,
        "cache_control": OBJECT, "container": TEXT_OR_OBJECT, "context_management": OBJECT, "diagnostics": OBJECT,
        "inference_geo": TEXT, "mcp_servers": OBJECTS, "messages": LIST, "output_config": OBJECT,
        "output_format": OBJECT, "stop_sequences": TEXTS, "system": TEXT_OR_LIST, "temperature": NUMBER,
        "thinking": OBJECT, "tool_choice": OBJECT, "top_k": WHOLE, "top_p": NUMBER,
    },
}  # fmt: skip
"""All fields of the formats that are translated."""


def wrong_types(body: Mapping[str, Any], types: Mapping[str, JsonType]) -> Iterator[tuple[str, str]]:
    """Yield the path of each field with a wrong type, `tools.0` for an item of a list, and what was expected."""
    for name, expected in types.items():
        value = body.get(name)
        if value is None:
            continue
        if not expected.allows(value):
            yield name, expected.words
        elif expected.of is not None:
            for index, item in enumerate(value):
                if item is None or not expected.of.allows(item):
                    yield f"{name}.{index}", expected.of.words
