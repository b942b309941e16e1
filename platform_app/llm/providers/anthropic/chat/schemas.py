"""Translate JSON Schemas to those that Anthropic accepts, for the input of tools and for structured outputs.

Sources: https://platform.claude.com/docs/en/build-with-claude/structured-outputs ("JSON Schema limitations") and
Anthropic's own clients: constraints that Anthropic cannot enforce move to the description, where the model reads them.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from platform_app.llm.errors import unsupported

Schema = dict[str, Any]
Place = tuple["Place | None", str | int]
"""The place around a schema, and the step from there. Its path is written only for an error: it may have long names,
and each of many schemas has one."""
_MAX_STEP = 64
"""Characters of one name in a path."""
MAX_DEPTH = 100
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)  # fmt: skip
_COMBINED = ("anyOf", "oneOf", "allOf")
_DEFINITIONS = ("$defs", "definitions")
_LEFT_OUT = frozenset({"$schema", "$id", "$comment", "examples", "deprecated", "readOnly", "writeOnly", "strict"})
"""Keywords without an effect on validity."""
_KEPT = frozenset({"type", "enum", "const", "$ref", "description", "title", "default", "required"})


def input_schema(given: object, where: str) -> Schema:
    """Return the schema of a tool's input, with type object.

    Raises:
        ProviderRejectedRequest: the schema is not one of an object, or combines several.
    """
    if given is None:
        return {"type": "object", "properties": {}}
    if not isinstance(given, dict):
        raise unsupported(where, "must be a JSON Schema of an object")
    schema = _resolved(given)
    for name in _COMBINED:
        if schema.get(name):
            raise unsupported(f"{where}.{name}", "is not available at the top of a tool's parameters on this model")
    kind = schema.get("type")
    if kind is None or (isinstance(kind, str | list) and "object" in kind):
        kind = "object"
    if not isinstance(kind, str) or kind.lower() != "object":
        raise unsupported(f"{where}.type", "must be object")
    if not schema:
        return {"type": "object", "properties": {}}
    return schema if schema.get("type") == "object" else {**schema, "type": "object"}


def output_schema(given: Mapping[str, Any], where: str) -> Schema:
    """Return a schema that Anthropic can enforce. Other constraints move to descriptions.

    Raises:
        ProviderRejectedRequest: the schema refers to another document, or is nested too deeply.
    """
    return _enforced(given, (None, where), 0)


def _resolved(schema: Mapping[str, Any]) -> Schema:
    """Replace a schema that is only a reference, or an allOf of one schema, by its target."""
    for _ in range(8):
        parts = schema.get("allOf")
        if isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], dict):
            schema = {**{name: value for name, value in schema.items() if name != "allOf"}, **parts[0]}
            continue
        target = _target(schema, schema.get("$ref"))
        if target is None:
            break
        schema = {**{name: value for name, value in schema.items() if name != "$ref"}, **target}
    return dict(schema)


def _target(schema: Mapping[str, Any], reference: object) -> Schema | None:
    if not isinstance(reference, str):
        return None
    for name in _DEFINITIONS:
        found = schema.get(name)
        if reference.startswith(f"#/{name}/") and isinstance(found, dict):
            target = found.get(reference.removeprefix(f"#/{name}/"))
            return target if isinstance(target, dict) else None
    return None


def _written(place: Place) -> str:
    """Return the path of a place, long names cut."""
    steps: list[str] = []
    around: Place | None = place
    while around is not None:
        around, step = around
        steps.append(str(step)[:_MAX_STEP])
    return ".".join(reversed(steps))


def _enforced(given: object, where: Place, depth: int) -> Schema:
    if depth > MAX_DEPTH:
        raise unsupported(_written(where), f"is nested more than {MAX_DEPTH} levels deep")
    if not isinstance(given, dict):
        raise unsupported(_written(where), "must be a JSON Schema")
    given = _plain_reference(given, where)
    made: Schema = {}
    moved: Schema = {}
    for name, value in given.items():
        if name in _DEFINITIONS or name == "properties":
            if not isinstance(value, dict):
                raise unsupported(_written((where, name)), "must be an object")
            around = (where, name)
            made[name] = {inner: _enforced(each, (around, inner), depth + 1) for inner, each in value.items()}
        elif name in _COMBINED:
            if not isinstance(value, list):
                raise unsupported(_written((where, name)), "must be a list")
            # oneOf cannot be enforced: anyOf is the nearest.
            combined = "anyOf" if name == "oneOf" else name
            around = (where, name)
            made[combined] = [_enforced(each, (around, index), depth + 1) for index, each in enumerate(value)]
        elif name == "items" and isinstance(value, dict):
            made[name] = _enforced(value, (where, name), depth + 1)
        elif name == "$ref" and not (isinstance(value, str) and value.startswith("#")):
            raise unsupported(_written((where, "$ref")), "must refer to this schema itself on this model")
        elif name in _KEPT or _can_enforce(name, value):
            made[name] = value
        elif name not in _LEFT_OUT and name != "additionalProperties":
            moved[name] = value
    return _finished(made, moved, given.get("additionalProperties"), where)


def _plain_reference(given: Schema, where: Place) -> Schema:
    """Move a reference out of `allOf`, where pydantic writes it if it has a description. Anthropic allows no reference
    there."""
    parts = given.get("allOf")
    if isinstance(parts, list) and any(isinstance(part, dict) and "$ref" in part for part in parts):
        if len(parts) > 1:
            raise unsupported(_written((where, "allOf")), "must not hold references on this model")
        given = {**given, "$ref": parts[0]["$ref"]}
    if "$ref" not in given:
        return given
    return {name: value for name, value in given.items() if name == "$ref" or name in _DEFINITIONS}


def _can_enforce(name: str, value: object) -> bool:
    known = name == "format" and isinstance(value, str) and value in _FORMATS
    return known or (name == "minItems" and value in (0, 1))


def _finished(made: Schema, moved: Schema, others: object, where: Place) -> Schema:
    enum = made.get("enum")
    if isinstance(enum, list) and any(isinstance(value, dict | list) for value in enum):
        moved["enum"] = made.pop("enum")
    if isinstance(made.get("const"), dict | list):
        moved["const"] = made.pop("const")
    if _is_object(made):
        if others not in (None, False) and not made.get("properties"):
            raise unsupported(
                _written((where, "additionalProperties")), "must be false on this model: name the properties"
            )
        made["additionalProperties"] = False
    if moved:
        note = ", ".join(f"{name}: {_shown(value)}" for name, value in moved.items())
        description = made.get("description")
        made["description"] = f"{description}\n\n{{{note}}}" if isinstance(description, str) else f"{{{note}}}"
    return made


def _shown(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # an integer beyond 64 bits; the request's parser allows none
        return str(value)


def _is_object(schema: Schema) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema
