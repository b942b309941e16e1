"""Generate a value that conforms to a simple JSON schema, for structured output and arguments of tool calls."""

from collections.abc import Mapping, Sequence

MAX_DEPTH = 12
_FORMATS: Mapping[str, str] = {
    "date": "2025-01-01",
    "date-time": "2025-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
}


def conforming_value(schema: object, text: str) -> object:
    """Return a value for `schema`, with `text` where any string conforms.

    Understands const, enum, default, type, properties, required, items, minItems, minLength, maxLength, minimum,
    exclusiveMinimum, format, anyOf, oneOf, allOf and local $ref. Not: pattern, multipleOf, not, if. Below
    `MAX_DEPTH` levels only what is required is filled in, so that a recursive schema comes to an end.
    """
    return _value(schema, schema, text, 0)


def _value(schema: object, root: object, text: str, depth: int) -> object:
    if not isinstance(schema, Mapping) or depth > 2 * MAX_DEPTH:
        return text if schema is True else None
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if isinstance(schema.get("enum"), Sequence) and schema["enum"]:
        return schema["enum"][0]
    if isinstance(schema.get("$ref"), str):
        return _value(_resolve(root, schema["$ref"]), root, text, depth + 1)
    if isinstance(schema.get("allOf"), Sequence):
        return _value(_merged(schema, root), root, text, depth + 1)
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), Sequence) and schema[key]:
            branches = schema[key]
            # At depth the last branch is used: in a recursive schema it usually is null.
            return _value(branches[-1 if depth > MAX_DEPTH else 0], root, text, depth + 1)
    return _typed(schema, root, text, depth)


def _typed(schema: Mapping[str, object], root: object, text: str, depth: int) -> object:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        kind = "null" if "null" in kind and depth > MAX_DEPTH else kind[0]
    match kind:
        case "object":
            return _object(schema, root, text, depth)
        case "array":
            at_least = schema.get("minItems", 1 if depth <= MAX_DEPTH else 0)
            count = at_least if isinstance(at_least, int) else 0
            return [_value(schema.get("items", True), root, text, depth + 1) for _ in range(count)]
        case "integer" | "number":
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _string(schema, text)


def _object(schema: Mapping[str, object], root: object, text: str, depth: int) -> dict[str, object]:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    required = schema.get("required")
    wanted = required if depth > MAX_DEPTH and isinstance(required, Sequence) else list(properties)
    return {name: _value(properties.get(name, True), root, text, depth + 1) for name in wanted}


def _number(schema: Mapping[str, object], *, whole: bool) -> float:
    minimum, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    value: float = 1
    if isinstance(minimum, int | float):
        value = minimum
    elif isinstance(above, int | float):
        value = above + 1
    maximum = schema.get("maximum")
    if isinstance(maximum, int | float) and value > maximum:
        value = maximum
    return int(value) if whole else float(value)


def _string(schema: Mapping[str, object], text: str) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[str(schema["format"])]
    at_least, at_most = schema.get("minLength"), schema.get("maxLength")
    if isinstance(at_least, int):
        text = text.ljust(at_least, "x")
    return text[:at_most] if isinstance(at_most, int) else text


def _merged(schema: Mapping[str, object], root: object) -> dict[str, object]:
    merged = {key: value for key, value in schema.items() if key != "allOf"}
    parts = schema["allOf"]
    for part in parts if isinstance(parts, Sequence) else ():
        resolved = _resolve(root, part["$ref"]) if isinstance(part, Mapping) and "$ref" in part else part
        if not isinstance(resolved, Mapping):
            continue
        for key, value in resolved.items():
            present = merged.get(key)
            if isinstance(present, Mapping) and isinstance(value, Mapping):
                merged[key] = {**present, **value}
            else:
                merged[key] = value
    return merged


def _resolve(root: object, reference: object) -> object:
    """Return the schema at `#/a/b`, or True (any value) if the pointer leads nowhere."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return True
    found = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if not step:
            continue
        if not isinstance(found, Mapping) or step not in found:
            return True
        found = found[step]
    return found
