"""Read JSON that ends in the middle, as the arguments of a call do when the model reached its limit of tokens."""

from typing import Any

from pydantic_core import from_json

from platform_app.llm.codecs.lenient_json import joined


def object_of_start(text: str) -> dict[str, Any]:
    """Return the members that are complete; a text without an end is left out. This is what the parsers of Anthropic's
    clients return for the same text. Return an empty object if the text does not begin one."""
    try:
        value = from_json(joined(text), allow_partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
