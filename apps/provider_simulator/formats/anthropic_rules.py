"""Requests that Anthropic's Messages API refuses although every field has its documented type. The messages are from
public reports by users of gateways."""

import re
from collections.abc import Iterator, Mapping

from apps.provider_simulator.model.simulated_model import InvalidRequestError, JsonObject, messages_of

_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}", re.ASCII)
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_SIGNATURES = (("/9j/", "image/jpeg"), ("iVBORw0KGgo", "image/png"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp"))
_WITHOUT_EFFORT = re.compile(r"claude-(?:3|sonnet-4-5|haiku-4-5|opus-4-1)")
_MAX_OUTPUT = (("claude-3-haiku", 4096), ("claude-3-5", 8192), ("claude-opus-4-1", 32_000), ("claude-", 128_000))
_NOT_ENFORCED = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
     "maxItems", "uniqueItems", "minProperties", "maxProperties", "oneOf", "not", "if", "prefixItems", "contains"}
)  # fmt: skip


def require_what_anthropic_does(body: Mapping[str, object]) -> None:
    """Raise InvalidRequestError, which names the field, if a rule is violated."""
    messages = messages_of(body)
    if messages[0].get("role") != "user":
        raise InvalidRequestError('first message must use the "user" role', "messages")
    seen: set[object] = set()
    for index, message in enumerate(messages):
        for number, block in enumerate(_blocks(message)):
            _check_block(block, f"messages.{index}.content.{number}", seen)
    _check_prefill(messages)
    _check_tools(body, messages)
    _check_thinking(body)
    _check_output(body)


def _blocks(message: Mapping[str, object]) -> Iterator[JsonObject]:
    content = message.get("content")
    yield from (block for block in content if isinstance(block, dict)) if isinstance(content, list) else ()


def _check_block(block: JsonObject, where: str, seen: set[object]) -> None:
    match block:
        case {"type": "tool_use", "id": call_id, "name": name}:
            _require(
                _ID.fullmatch(str(call_id)),
                "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'",
                f"{where}.tool_use.id",
            )
            _require(
                _NAME.fullmatch(str(name)),
                "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
                f"{where}.tool_use.name",
            )
            _require(call_id not in seen, "`tool_use` ids must be unique", where)
            _require(
                isinstance(block.get("input"), dict), "Input should be a valid dictionary", f"{where}.tool_use.input"
            )
            seen.add(call_id)
        case {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}:
            _require(
                media_type in _IMAGE_TYPES,
                f"Input should be {', '.join(_IMAGE_TYPES)}",
                f"{where}.image.source.base64.media_type",
            )
            real = next((kind for start, kind in _SIGNATURES if str(data).startswith(start)), media_type)
            _require(real == media_type, f"Image does not match the provided media type {media_type}", where)
        case {"type": "thinking"}:
            _require(block.get("signature"), "Field required", f"{where}.thinking.signature")
        case {"type": "tool_result"}:
            for number, inner in enumerate(_blocks(block)):
                _check_block(inner, f"{where}.tool_result.content.{number}", seen)


def _check_prefill(messages: list[JsonObject]) -> None:
    last = list(_blocks(messages[-1]))
    if messages[-1].get("role") == "assistant" and last and last[-1].get("type") == "text":
        text = str(last[-1].get("text"))
        _require(text == text.rstrip(), "final assistant content cannot end with trailing whitespace", "messages")


def _check_tools(body: Mapping[str, object], messages: list[JsonObject]) -> None:
    tools = body.get("tools")
    if not isinstance(tools, list) or not tools:
        _require("tool_choice" not in body, "tool_choice may only be specified while providing tools", "tool_choice")
        kinds = {block.get("type") for message in messages for block in _blocks(message)}
        _require(
            not kinds & {"tool_use", "tool_result"},
            "Requests which have `tool_use` or `tool_result` blocks in `messages` must define tools",
            "tools",
        )
        return
    for index, tool in enumerate(tools):
        where = f"tools.{index}.custom"
        _require(
            _NAME.fullmatch(str(tool.get("name"))),
            "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
            f"{where}.name",
        )
        if tool.get("type", "custom") != "custom":
            continue  # Anthropic's own tools have no schema in the request
        schema = tool.get("input_schema")
        _require(
            isinstance(schema, dict) and schema.get("type") == "object",
            "Input should be 'object'",
            f"{where}.input_schema.type",
        )
        _require(
            not schema.keys() & {"anyOf", "oneOf", "allOf"},
            "input_schema does not support oneOf, allOf, or anyOf at the top level",
            where,
        )
        if tool.get("strict"):
            _check_schema(schema, f"{where}.input_schema")


def _check_thinking(body: Mapping[str, object]) -> None:
    match body.get("thinking"), body.get("max_tokens"):
        case {"type": "enabled", "budget_tokens": int(budget)}, int(limit):
            _require(limit > budget, "`max_tokens` must be greater than `thinking.budget_tokens`", "max_tokens")
            _require(
                body.get("temperature") in (None, 1),
                "`temperature` may only be set to 1 when thinking is enabled",
                "temperature",
            )
            choice = body.get("tool_choice")
            forced = isinstance(choice, dict) and choice.get("type") in ("any", "tool")
            _require(not forced, "Thinking may not be enabled when tool_choice forces tool use", "tool_choice")
    model, asked = str(body.get("model")), body.get("max_tokens")
    most = next((tokens for start, tokens in _MAX_OUTPUT if start in model), None)
    if most is not None and isinstance(asked, int):
        _require(
            asked <= most,
            f"{asked} > {most}, which is the maximum allowed number of output tokens for {model}",
            "max_tokens",
        )


def _check_output(body: Mapping[str, object]) -> None:
    output = body.get("output_config")
    if not isinstance(output, dict):
        return
    if "effort" in output and _WITHOUT_EFFORT.search(str(body.get("model"))):
        raise InvalidRequestError("This model does not support the effort parameter.")
    match output.get("format"):
        case {"schema": dict(schema)}:
            _check_schema(schema, "output_config.format.schema")


def _check_schema(schema: object, where: str) -> None:
    if isinstance(schema, list):
        for each in schema:
            _check_schema(each, where)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object":
        _require(
            schema.get("additionalProperties") is False,
            "For 'object' type, 'additionalProperties' must be explicitly set to false",
            where,
        )
    refused = sorted(schema.keys() & _NOT_ENFORCED)
    _require(not refused, f"For '{schema.get('type')}' type, properties {', '.join(refused)} are not supported", where)
    for name, value in schema.items():
        if name in ("properties", "$defs", "definitions") and isinstance(value, dict):
            for inner in value.values():
                _check_schema(inner, where)
        elif name not in ("enum", "const", "default", "required"):
            _check_schema(value, where)


def _require(good: object, message: str, where: str) -> None:
    if not good:
        raise InvalidRequestError(message, where)
