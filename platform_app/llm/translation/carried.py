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
from platform_app.llm.codecs.value_count import ValueBudget
from platform_app.llm.errors import too_many_values

_THINKING = "fbt1."
_REASONING = "fbr1."


def carry_thinking(blocks: Sequence[Mapping[str, Any]]) -> str:
    """Return the `encrypted_content` of a reasoning item that carries Anthropic's thinking blocks."""
    return _THINKING + _encoded(list(blocks))


def carried_thinking(
    text: object, where: str = "encrypted_content", budget: ValueBudget | None = None
) -> list[dict[str, Any]] | None:
    """Return the thinking blocks in an `encrypted_content`; None if it carries none.

    Args:
        text: the value of the field, which a client may have written itself.
        where: the field's path.
        budget: the values that the request's JSON texts may have.

    Raises:
        UnsupportedByProvider: the text has too many JSON values; the error names the field.
    """
    blocks = _decoded(text, _THINKING, where, budget)
    return blocks if isinstance(blocks, list) and all(isinstance(block, dict) for block in blocks) else None


def carry_reasoning(item: Mapping[str, Any]) -> str:
    """Return the `signature` of a thinking block that carries a reasoning item of the Responses API."""
    return _REASONING + _encoded(dict(item))


def carried_reasoning(
    text: object, where: str = "signature", budget: ValueBudget | None = None
) -> dict[str, Any] | None:
    """Return the reasoning item in a `signature`; None if it carries none. See carried_thinking."""
    item = _decoded(text, _REASONING, where, budget)
    return item if isinstance(item, dict) else None


def is_carried(text: object) -> bool:
    """Return whether the text carries the objects of another format."""
    return isinstance(text, str) and text.startswith((_THINKING, _REASONING))


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(lenient_json.dumps(value)).rstrip(b"=").decode()


def _decoded(text: object, prefix: str, where: str, budget: ValueBudget | None) -> Any:
    """Return the value, or None for any text that `_encoded` did not write: clients may send anything."""
    if not isinstance(text, str) or not text.startswith(prefix):
        return None
    data = text[len(prefix) :]
    try:
        written = base64.b64decode(data + "=" * (-len(data) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    if not (budget or ValueBudget()).allows(written):
        raise too_many_values(where)
    try:
        return lenient_json.loads(written)
    except ValueError:
        return None
