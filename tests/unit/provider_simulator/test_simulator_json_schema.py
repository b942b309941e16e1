"""Values for JSON schemas, judged by an independent validator."""

from typing import Any

import jsonschema  # type: ignore[import-untyped] # it ships no types
import pytest

from apps.provider_simulator.model.json_schema import conforming_value

SCHEMAS: tuple[dict[str, Any], ...] = (
    {"type": "object", "properties": {"a": {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 2}}},
    {"type": "object", "properties": {"n": {"type": ["number", "null"], "exclusiveMinimum": 4}, "b": {"const": 1}}},
    {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]},
    {"allOf": [{"$ref": "#/$defs/p"}, {"required": ["z"]}], "$defs": {"p": {"properties": {"z": {"type": "boolean"}}}}},
    {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}},
    {
        "$ref": "#/$defs/list",
        "$defs": {
            "list": {
                "type": "object",
                "properties": {"next": {"anyOf": [{"$ref": "#/$defs/list"}, {"type": "null"}]}},
                "required": ["next"],
            }
        },
    },
)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_value_conforms_to_schema(schema: dict[str, Any]) -> None:
    jsonschema.validate(conforming_value(schema, "some text"), schema)


def test_text_goes_where_any_string_will_do() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string", "minLength": 4}}}
    assert conforming_value(schema, "abc") == {"a": "abc", "b": "abcx"}
