"""Say what a value should be, from the JSON Schema of its field."""

from collections.abc import Iterator, Mapping
from typing import Any

from platform_app.config.reading.values import Path

Schema = Mapping[str, Any]
_PLAIN_WORDS = {"boolean": "true or false", "array": "a list", "object": "a mapping", "string": "text"}
_NUMBERS = {"integer": "a whole number", "number": "a number"}
PATTERN_WORDS = {
    r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}(#[A-Za-z0-9_.-]{1,100})?$": "the name of a secret, such as OPENAI_API_KEY: "
    "letters, digits and _ . - in parts between /, and #field behind it",
    r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$": "a model's name: up to 128 letters, digits and . _ : / @ -, with a "
    "letter or digit first",
    r"^([A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}|[A-Za-z0-9._:/@-]{0,126}\*[A-Za-z0-9._:/@-]{0,126})$": "a model's name: up "
    "to 128 letters, digits and . _ : / @ -, with a letter or digit first, or with one * for the part that it matches",
    r"^[a-z0-9][a-z0-9-]{0,62}$": "a name of up to 63 lower-case letters, digits and -",
    r"^\S(.{0,198}\S)?$": "an owner: 1 to 200 characters, without white space around them",
    r"^[A-Za-z0-9-]{1,64}$": "a header's name: up to 64 letters, digits and -",
    r"^[\x20-\x7e]{1,512}$": "a header's value: up to 512 printable ASCII characters",
    r"^[A-Za-z0-9_.:-]{1,128}$": "a field's name: up to 128 letters, digits and _ . : -",
    r"^[A-Za-z0-9.-]{1,40}$": "a version, such as 2024-10-21",
    r"^[a-z0-9-]+$": "a region, such as eu-central-1",
    r"^[A-Za-z0-9/_+=.@-]*$": "a prefix of letters, digits and / _ + = . @ -",
    r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*/?$": "a path of letters, digits and _ . - in parts "
    "between /",
}
"""What each pattern of a field means."""


def schema_at(root: Schema, path: Path) -> Schema | None:
    """Return the schema of the value at this path; None if no field is there."""
    node: Schema | None = root
    for part in path:
        node = _child(root, node, part)
        if node is None:
            return None
    return node


def options(root: Schema, node: Schema) -> Iterator[Schema]:
    """Yield the alternatives of a schema, with references resolved and without null."""
    if "$ref" in node:
        found: Schema = root
        for part in str(node["$ref"]).removeprefix("#/").split("/"):
            found = found[part]
        yield from options(root, found)
    elif "anyOf" in node or "allOf" in node:
        for option in node.get("anyOf", node.get("allOf", ())):
            yield from options(root, option)
    elif node.get("type") != "null":
        yield node


def keys_of(root: Schema, node: Schema) -> list[str]:
    """Return the keys that a mapping may have; empty if it may have any."""
    return [key for option in options(root, node) for key in option.get("properties", ())]


def expected(root: Schema, node: Schema) -> str:
    """Describe the value that a schema expects, such as "a whole number from 1 to 1000"."""
    found = list(options(root, node))
    if any(option.get("type") in _NUMBERS for option in found):
        # A decimal number's schema also allows a text with digits.
        found = [option for option in found if option.get("type") != "string" or "enum" in option]
    return " or ".join(dict.fromkeys(_words(option) for option in found))


def takes_numbers(root: Schema, node: Schema) -> bool:
    """Return whether the value may be a number."""
    return any(option.get("type") in _NUMBERS for option in options(root, node))


def _child(root: Schema, node: Schema | None, part: str | int) -> Schema | None:
    for option in options(root, node) if node is not None else ():
        found: Any = None
        if isinstance(part, int):
            found = option.get("items")
        elif option.get("type") == "object":
            found = option.get("properties", {}).get(part)
            if found is None:
                found = next(iter(option.get("patternProperties", {}).values()), None)
            if found is None and isinstance(option.get("additionalProperties"), Mapping):
                found = option["additionalProperties"]
        if isinstance(found, Mapping):
            return found
    return None


def _words(node: Schema) -> str:
    if "enum" in node:
        return f"one of {', '.join(map(str, node['enum']))}"
    if "const" in node:
        return str(node["const"])
    kind = str(node.get("type", ""))
    if kind in _NUMBERS:
        return _NUMBERS[kind] + _range(node)
    if kind == "string":
        return PATTERN_WORDS.get(str(node.get("pattern")), "a path" if node.get("format") == "path" else "text")
    words = _PLAIN_WORDS.get(kind, "another value")
    return words + _size(node)


def _range(node: Schema) -> str:
    low, high, above = node.get("minimum"), node.get("maximum"), node.get("exclusiveMinimum")
    if low is not None and high is not None:
        return f" from {_number(low)} to {_number(high)}"
    if above is not None and high is not None:
        return f" above {_number(above)}, up to {_number(high)}"
    if low is not None or above is not None:
        return f" from {_number(low)}" if low is not None else f" above {_number(above)}"
    return f" up to {_number(high)}" if high is not None else ""


def _number(value: Any) -> str:
    return f"{value:.15g}"


def _size(node: Schema) -> str:
    least, most = node.get("minItems", node.get("minProperties")), node.get("maxItems", node.get("maxProperties"))
    if least and most:
        return f" of {least} to {most} items"
    if least or most:
        return f" with at least {least} item{'s' if least != 1 else ''}" if least else f" of at most {most} items"
    return ""
