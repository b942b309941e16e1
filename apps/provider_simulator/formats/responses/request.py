"""Strict reading of a Responses request, and the chat that the simulated model sees.

The rules are those whose violation OpenAI refuses in practice: unknown fields and types, calls without output, outputs
without a call, and reasoning that was neither stored nor encrypted by this provider.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from apps.provider_simulator.formats.responses.store import ResponseStore
from apps.provider_simulator.model.simulated_model import InvalidRequestError, JsonObject

_FIELD_NAMES = (
    "background client_metadata context_management conversation include input instructions max_output_tokens "
    "max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt prompt_cache_key "
    "prompt_cache_options "
    "prompt_cache_retention reasoning safety_identifier service_tier store stream stream_options temperature text "
    "tool_choice tools top_logprobs top_p truncation user"
)
FIELDS = frozenset(_FIELD_NAMES.split())
ENCRYPTED = "sealed:"
"""The start of the simulator's encrypted reasoning."""
_PARTS = {
    "user": ("input_text", "input_image", "input_file"),
    "system": ("input_text",),
    "developer": ("input_text",),
    "assistant": ("output_text", "refusal"),
}
_OUTPUTS = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "local_shell_call": "local_shell_call_output",
    "shell_call": "shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read."""

    items: Sequence[JsonObject]
    """The conversation: earlier items, and those of the request."""
    chat: JsonObject
    """The same as a chat completion's request, which the simulated model reads."""
    custom: frozenset[str]
    """The names of the custom tools."""


def read_request(body: Mapping[str, object], store: ResponseStore) -> Asked:
    """Read a request.

    Raises:
        InvalidRequestError: OpenAI would refuse it.
    """
    for name in body:
        if name not in FIELDS:
            raise InvalidRequestError(f"Unknown parameter: '{name}'.", name)
    items = [*_earlier(body, store), *_given(body.get("input"), store)]
    _require_outputs(items)
    tools = _tools(body.get("tools"))
    chat: JsonObject = {
        "messages": list(_messages(body.get("instructions"), items)),
        "tools": [{"type": "function", "function": function} for function in tools],
        "tool_choice": _choice(body.get("tool_choice")),
        "parallel_tool_calls": body.get("parallel_tool_calls"),
        "max_tokens": body.get("max_output_tokens"),
        "response_format": _format(body.get("text")),
        "reasoning_effort": _of(body, "reasoning", "effort"),
    }
    custom = frozenset(str(function["name"]) for function in tools if function.get("custom"))
    return Asked(items, chat, custom)


def _earlier(body: Mapping[str, object], store: ResponseStore) -> Sequence[JsonObject]:
    previous = body.get("previous_response_id")
    if previous is None:
        return ()
    stored = store.get(str(previous))
    if stored is None:
        raise InvalidRequestError(f"Previous response with id '{previous}' not found.", "previous_response_id")
    return stored.items


def _given(given: object, store: ResponseStore) -> Iterator[JsonObject]:
    if isinstance(given, str):
        yield {"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}
        return
    if not isinstance(given, list) or not given:
        raise InvalidRequestError("Missing required parameter: 'input'.", "input")
    for index, item in enumerate(given):
        yield _item(item, f"input[{index}]", store)


def _item(item: object, where: str, store: ResponseStore) -> JsonObject:
    if not isinstance(item, dict):
        raise InvalidRequestError(f"Invalid type for '{where}': expected an object.", where)
    kind = item.get("type") or ("message" if "role" in item else "item_reference")
    match kind:
        case "message":
            return {**item, "type": "message", "content": _content(item, where)}
        case "item_reference":
            found = store.item(item.get("id"))
            if found is None:
                raise InvalidRequestError(f"Item with id '{item.get('id')}' not found.", "input")
            return dict(found)
        case "reasoning":
            _check_reasoning(item, store)
        case "function_call" | "custom_tool_call":
            _require(item, ("name", "call_id", "arguments" if kind == "function_call" else "input"), where)
        case "function_call_output" | "custom_tool_call_output":
            _require(item, ("call_id",), where)
            output = item.get("output")
            if not isinstance(output, str):
                _check_parts(output, _PARTS["user"], f"{where}.output")
        case _ if kind not in (*_OUTPUTS, *_OUTPUTS.values(), "compaction", "additional_tools", "tool_search_call"):
            raise InvalidRequestError(f"Invalid value: '{kind}'.", f"{where}.type")
    return item


def _content(item: Mapping[str, object], where: str) -> list[JsonObject]:
    role = item.get("role")
    if role not in _PARTS:
        raise InvalidRequestError(f"Invalid value: '{role}'.", f"{where}.role")
    content = item.get("content")
    if isinstance(content, str):
        return [{"type": "output_text" if role == "assistant" else "input_text", "text": content}]
    return _check_parts(content, _PARTS[str(role)], f"{where}.content")


def _check_parts(content: object, kinds: tuple[str, ...], where: str) -> list[JsonObject]:
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise InvalidRequestError(f"Invalid type for '{where}': expected text or a list of parts.", where)
    for index, part in enumerate(content):
        kind = part.get("type")
        if kind not in kinds:
            known = ", ".join(f"'{each}'" for each in kinds)
            message = f"Invalid value: '{kind}'. Supported values are: {known}."
            raise InvalidRequestError(message, f"{where}[{index}].type")
        field = {"refusal": "refusal", "input_image": "image_url", "input_file": ""}.get(str(kind), "text")
        if field and not isinstance(part.get(field), str) and not part.get("file_id"):
            raise InvalidRequestError(f"Missing required parameter: '{where}[{index}].{field}'.", f"{where}[{index}]")
    return content


def _check_reasoning(item: Mapping[str, object], store: ResponseStore) -> None:
    if not isinstance(item.get("summary"), list):
        raise InvalidRequestError("Missing required parameter: 'summary'.", "input")
    sealed = item.get("encrypted_content")
    if sealed is None:
        if store.item(item.get("id")) is None:
            message = (
                f"Item with id '{item.get('id')}' not found. Items are not persisted when `store` is set to false."
            )
            raise InvalidRequestError(message, "input")
    elif not str(sealed).startswith(ENCRYPTED):
        raise InvalidRequestError("The encrypted content could not be verified.", "input")


def _require(item: Mapping[str, object], names: Sequence[str], where: str) -> None:
    for name in names:
        if not isinstance(item.get(name), str):
            raise InvalidRequestError(f"Missing required parameter: '{where}.{name}'.", f"{where}.{name}")


def _require_outputs(items: Sequence[JsonObject]) -> None:
    """Require an output for each call, and a call for each output."""
    open_calls: dict[object, str] = {}
    for item in items:
        kind, call = str(item.get("type")), item.get("call_id")
        if kind in _OUTPUTS:
            open_calls[call] = _OUTPUTS[kind]
        elif kind in _OUTPUTS.values() and open_calls.pop(call, None) != kind:
            raise InvalidRequestError(f"No tool call found for function call output with call_id {call}.", "input")
    if open_calls:
        raise InvalidRequestError(f"No tool output found for function call {next(iter(open_calls))}.", "input")


def _tools(tools: object) -> list[JsonObject]:
    """Return the functions and custom tools; hosted tools and those of the client's machine are never called."""
    functions: list[JsonObject] = []
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str):
            raise InvalidRequestError(f"Missing required parameter: 'tools[{index}].type'.", "tools")
        if kind in ("function", "custom"):
            _require(tool, ("name",), f"tools[{index}]")
            functions.append(
                {"name": tool["name"], "parameters": tool.get("parameters"), "custom": kind == "custom"}
            )  # fmt: skip
    return functions


def _choice(choice: object) -> object:
    match choice:
        case {"type": "function" | "custom", "name": name}:
            return {"type": "function", "function": {"name": name}}
        case {"type": "allowed_tools", "mode": mode}:
            return mode
        case str() | None:
            return choice
        case _:
            raise InvalidRequestError("Invalid value for 'tool_choice'.", "tool_choice")


def _format(text: object) -> object:
    match text:
        case {"format": {"type": "json_schema", "schema": dict(schema), "name": str()}}:
            return {"type": "json_schema", "json_schema": {"schema": schema}}
        case {"format": {"type": "json_schema"}}:
            raise InvalidRequestError("Missing required parameter: 'text.format.schema'.", "text.format")
        case {"format": {"type": "text" | "json_object" as kind}}:
            return {"type": kind}
        case {"format": _}:
            raise InvalidRequestError("Invalid value: 'text.format.type'.", "text.format")
        case _:
            return None


def _messages(instructions: object, items: Sequence[JsonObject]) -> Iterator[JsonObject]:
    if isinstance(instructions, str):
        yield {"role": "system", "content": instructions}
    for item in items:
        kind = str(item.get("type"))
        if kind == "message":
            yield {"role": item["role"], "content": item["content"]}
        elif kind in _OUTPUTS.values():
            yield {"role": "tool", "content": item.get("output")}


def _of(body: Mapping[str, object], field: str, name: str) -> object:
    value = body.get(field)
    return value.get(name) if isinstance(value, dict) else None
