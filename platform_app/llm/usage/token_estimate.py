"""Estimate the tokens of a request from its text: the amount that a limit reserves before the provider has counted.

It uses no tokenizer, which would cost more than the rest of the gateway, and each model has a different one. OpenAI's
rule of thumb is four characters of English per token (help.openai.com, "What are tokens and how to count them"). Here
it is three and a half, since code, JSON and other European languages have shorter tokens. Other scripts than Latin
count one token per character, the worst case of Chinese, Japanese, Korean and emoji. So the estimate is too high: by a
sixth for English prose, by up to half for Cyrillic or Greek. The counts of the response replace it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

LATIN_CHARACTERS_PER_TOKEN = 3.5
MESSAGE_TOKENS = 4
"""The tokens that a provider adds to each message for its role and separators: three or four in OpenAI's chat
models."""
IMAGE_TOKENS = 1100
"""One image in full detail: 85 + 6 × 170 is OpenAI's figure for 1024 × 1536 pixels. Small images have fewer."""
LOW_DETAIL_IMAGE_TOKENS = 85
AUDIO_CHARACTERS_PER_TOKEN = 1000
"""Characters of base64: about a tenth of a second of 16-bit audio at 24 kHz, and ten tokens a second are charged."""
FILE_CHARACTERS_PER_TOKEN = 6
"""Characters of base64, as if the file were text."""


_CHAT_LIMITS = ("max_completion_tokens", "max_tokens")
_LIMITS = (*_CHAT_LIMITS, "max_output_tokens")
"""The names of the limit of output tokens, in all formats."""


def estimate_text_tokens(characters: int) -> int:
    """Return the tokens of this many characters of Latin script, rounded up."""
    return -int(-characters // LATIN_CHARACTERS_PER_TOKEN)


def latin_length(text: str) -> int:
    """Return how many characters of Latin script have as many tokens as the text."""
    if text.isascii():
        return len(text)
    latin = len(text.encode("latin-1", "ignore"))
    return latin + math.ceil((len(text) - latin) * LATIN_CHARACTERS_PER_TOKEN)


def estimate_prompt_tokens(body: Mapping[str, Any]) -> int:
    """Estimate the prompt tokens of a body of embeddings, or of a chat in any format. Values of another shape count by
    their JSON. Never raises."""
    if "messages" in body:
        total = sum(MESSAGE_TOKENS + _of_message(message) for message in _items(body["messages"]))
    else:
        total = _of_input(body.get("input"))
    for field in ("system", "instructions"):
        if field in body:
            total += MESSAGE_TOKENS + _of_content(body[field])
    for field in ("tools", "functions", "response_format", "text", "output_config"):
        if field in body:
            total += _of_json(body[field])
    return total


def requested_output_tokens(body: Mapping[str, Any], default: int) -> int:
    """Return the maximum of output tokens that a chat of any format asks for, else `default`, times `n`."""
    return (output_limit(body) or default) * (_count(body.get("n")) or 1)


def output_limit(body: Mapping[str, Any]) -> int | None:
    """Return the limit of output tokens that a chat of any format sets; None if it sets none. Of several names the
    largest limit counts, because providers differ in which one they read. With `messages`, none reads
    `max_output_tokens`."""
    most = 0
    for name in _CHAT_LIMITS if "messages" in body else _LIMITS:
        most = max(most, _count(body.get(name)) or 0)
    return most or None


def usual_output_tokens(body: Mapping[str, Any], default: int) -> int:
    """Return the output tokens that a whole response is estimated at: `default`, or less if the request allows less,
    times `n`."""
    choices = _count(body.get("n")) or 1
    return min(requested_output_tokens(body, default), default * choices)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _items(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _of_text(text: str) -> int:
    if text.isascii():
        return estimate_text_tokens(len(text))
    # Encoding to Latin-1 drops all other characters, and counts in C instead of in a loop.
    latin = len(text.encode("latin-1", "ignore"))
    return estimate_text_tokens(latin) + len(text) - latin


def _of_message(message: object) -> int:
    if not isinstance(message, Mapping):
        return _of_json(message)
    total = 0
    for field, value in message.items():
        if field == "role":
            continue
        if field in ("content", "output"):
            total += _of_content(value)
        else:
            total += _of_text(value) if isinstance(value, str) else _of_json(value)
    return total


def _of_content(value: object) -> int:
    return _of_text(value) if isinstance(value, str) else sum(_of_part(part) for part in _items(value))


def _of_part(part: object) -> int:
    if isinstance(part, str):
        return _of_text(part)
    if not isinstance(part, Mapping):
        return 0 if part is None else _of_json(part)
    match part.get("type"):
        case "text" | "input_text" | "output_text":
            text = part.get("text")
            return _of_text(text) if isinstance(text, str) else _of_json(text)
        case "image_url":
            image = part.get("image_url")
            low = isinstance(image, Mapping) and image.get("detail") == "low"
            return LOW_DETAIL_IMAGE_TOKENS if low else IMAGE_TOKENS
        case "input_image" | "image":
            return LOW_DETAIL_IMAGE_TOKENS if part.get("detail") == "low" else IMAGE_TOKENS
        case "tool_result":
            return _of_content(part.get("content"))
        case "document":
            return _of_data(part.get("source"), "data", FILE_CHARACTERS_PER_TOKEN)
        case "input_file":
            return _of_data(part, "file_data", FILE_CHARACTERS_PER_TOKEN)
        case "input_audio":
            return _of_data(part.get("input_audio"), "data", AUDIO_CHARACTERS_PER_TOKEN)
        case "file":
            return _of_data(part.get("file"), "file_data", FILE_CHARACTERS_PER_TOKEN)
        case _:
            return _of_json(part)


def _of_data(value: object, field: str, characters_per_token: int) -> int:
    data = value.get(field) if isinstance(value, Mapping) else None
    return len(data) // characters_per_token + 1 if isinstance(data, str) else IMAGE_TOKENS


def _of_input(value: object) -> int:
    """Estimate the input of embeddings (one text, several texts, or tokens) or of a Responses request (items)."""
    return sum(_of_item(item) for item in _items(value) if item is not None)


def _of_item(item: object) -> int:
    if isinstance(item, int):
        return 1
    if isinstance(item, str):
        return _of_text(item)
    return MESSAGE_TOKENS + _of_message(item) if isinstance(item, Mapping) else len(_items(item))


def _of_json(value: object) -> int:
    if value is None:
        return 0
    try:
        return _of_text(orjson.dumps(value).decode())
    except (TypeError, RecursionError, UnicodeError):
        return _of_text(repr(value))
