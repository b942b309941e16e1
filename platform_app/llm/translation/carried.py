"""Carry objects of one provider's format through an opaque field of a client's other format.

A Responses client sends back a reasoning item's `encrypted_content`, and a Messages client a thinking block's
`signature`. Both are opaque to clients. So the gateway puts the other format's objects there, marked by a prefix:

    Responses client, Anthropic provider   encrypted_content = "fbt1." + base64url(JSON of the thinking blocks)
    Messages client, Responses provider    signature         = "fbr1." + base64url(JSON of the reasoning item)

A provider checks its own signature or encryption inside, so the gateway adds none.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from platform_app.llm.codecs import lenient_json

_THINKING = "fbt1."
_REASONING = "fbr1."


def carry_thinking(blocks: Sequence[Mapping[str, Any]]) -> str:
    """Return the `encrypted_content` of a reasoning item that carries Anthropic's thinking blocks."""
    return _THINKING + _encoded(list(blocks))


def carried_thinking(text: object) -> list[dict[str, Any]] | None:
    """Return the thinking blocks in an `encrypted_content`; None if it carries none."""
    blocks = _decoded(text, _THINKING)
    return blocks if isinstance(blocks, list) and all(isinstance(block, dict) for block in blocks) else None


def carry_reasoning(item: Mapping[str, Any]) -> str:
    """Return the `signature` of a thinking block that carries a reasoning item of the Responses API."""
    return _REASONING + _encoded(dict(item))


def carried_reasoning(text: object) -> dict[str, Any] | None:
    """Return the reasoning item in a `signature`; None if it carries none."""
    item = _decoded(text, _REASONING)
    return item if isinstance(item, dict) else None


def is_carried(text: object) -> bool:
    """Return whether the text carries the objects of another format."""
    return isinstance(text, str) and text.startswith((_THINKING, _REASONING))


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(lenient_json.dumps(value)).rstrip(b"=").decode()


def _decoded(text: object, prefix: str) -> Any:
    """Return the value, or None for any text that `_encoded` did not write: clients may send anything."""
    if not isinstance(text, str) or not text.startswith(prefix):
        return None
    data = text[len(prefix) :]
    try:
        return lenient_json.loads(base64.b64decode(data + "=" * (-len(data) % 4), b"-_", validate=True))
    except (ValueError, binascii.Error):
        return None
