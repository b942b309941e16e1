"""Find values whose YAML type is not that of their field; pydantic alone would take `true` for 1 and '1_000' for 1000.

Choices are accepted in any case (`INFO` for `info`), as in environment variables.
"""

import re
from collections.abc import Iterator
from typing import Any

from platform_app.config.reading.expectations import Schema, options, schema_at, takes_numbers
from platform_app.config.reading.values import Path

_NUMBER_IN_QUOTES = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")


def mistyped(root: Schema, data: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of each value with the wrong type. Choices in another case are replaced in `data`."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in list(items):
        place = (*path, key)
        node = schema_at(root, place)
        if isinstance(value, dict | list):
            yield from mistyped(root, value, place)
        elif node is not None:
            if isinstance(value, str):
                value = data[key] = _in_its_case(root, node, value)
            if _is_mistyped(root, node, value):
                yield place


def _is_mistyped(root: Schema, node: Schema, value: Any) -> bool:
    kinds = {option.get("type") for option in options(root, node)}
    if isinstance(value, bool):
        return "boolean" not in kinds
    if kinds == {"boolean"}:
        return value is not None
    if isinstance(value, str) and takes_numbers(root, node):
        return _NUMBER_IN_QUOTES.fullmatch(value) is None
    return False


def _in_its_case(root: Schema, node: Schema, value: str) -> str:
    choices = [
        choice
        for option in options(root, node)
        for choice in (*option.get("enum", ()), *((option["const"],) if "const" in option else ()))
    ]
    return next((choice for choice in choices if choice.lower() == value.lower()), value)
