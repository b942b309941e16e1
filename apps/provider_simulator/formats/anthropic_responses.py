"""Anthropic's Messages API of the simulated model: strict reading of requests, responses and events.

No sockets, no clocks. Sources: https://docs.claude.com/en/api/messages and …/build-with-claude/streaming.
"""

from collections.abc import Iterator, Mapping

import orjson

from apps.provider_simulator.formats.anthropic_rules import require_what_anthropic_does
from apps.provider_simulator.formats.anthropic_wire import event
from apps.provider_simulator.formats.openai_chat import label_of
from apps.provider_simulator.model.prefix_cache import cached_tokens
from apps.provider_simulator.model.simulated_model import (
    Choice,
    InvalidRequestError,
    JsonObject,
    choices_of,
    count_tokens,
    messages_of,
    pieces,
    text_of,
)

_FIELDS = frozenset(
    {"model", "messages", "max_tokens", "system", "stream", "stop_sequences", "temperature", "top_p", "top_k",
     "tools", "tool_choice", "metadata", "thinking", "output_config", "cache_control", "container", "diagnostics",
     "inference_geo", "service_tier", "speed"}
)  # fmt: skip
_BETA_FIELDS = {"context_management": "context-management-"}
"""The beginning of the beta's name that each field needs."""
_SYSTEM_BETA = "mid-conversation-system-"
_COUNTED = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "thinking", "cache_control", "output_config"}
)
"""The fields of `/v1/messages/count_tokens`."""
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_CACHED = "cache_control"


class MessageAnswer:
    """Return the response to one request; see `choices_of` for how a message steers it. With a `cache_control`, half of
    the prompt is read from the cache and a quarter is written to it; a model `cached-…` reads what it has had before.
    `id` and the ids of tool calls differ between
    equal requests.

    Raises:
        InvalidRequestError: Anthropic would refuse the request, for example because of an unknown field.
    """

    before_text = 3
    after_text = 4

    def __init__(self, body: Mapping[str, object], serial: int, betas: str = "") -> None:
        """`betas` is the value of the header `anthropic-beta`."""
        _check(body, betas)
        label = label_of(body, serial)
        asked = _as_openai(body)
        self._id = f"msg_{label}"
        self._model = str(body["model"])
        self._choice = choices_of(asked, label)[0]
        self._stopped = _stop_sequence(asked, label, self._choice)
        messages = messages_of(asked)
        counts = [count_tokens(text_of(message)) for message in messages]
        self._prompt_tokens = sum(counts)
        marked = _CACHED in orjson.dumps(body).decode()
        self._read = self._prompt_tokens // 2 if marked else 0
        self._written = self._prompt_tokens // 4 if marked else 0
        if (cached := cached_tokens(self._model, messages, counts)) is not None:
            self._read, self._written = cached, self._prompt_tokens - cached if marked else 0

    def json(self) -> bytes:
        """The `message` object."""
        return orjson.dumps(
            {
                **self._envelope(),
                "content": list(self._blocks()),
                **self._ending(),
                "usage": {**self._usage(), "output_tokens": self._choice.tokens},
            }
        )

    def events(self) -> list[bytes]:
        """The events from `message_start` to `message_stop`."""
        nothing = {"stop_reason": None, "stop_sequence": None, "stop_details": None}
        start = {**self._envelope(), "content": [], **nothing, "usage": {**self._usage(), "output_tokens": 1}}
        events = [event({"type": "message_start", "message": start})]
        for index, block in enumerate(self._blocks()):
            empty, deltas = _in_pieces(block)
            events.append(event({"type": "content_block_start", "index": index, "content_block": empty}))
            if index == 0:
                events.append(event({"type": "ping"}))
            events += [event({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas]
            events.append(event({"type": "content_block_stop", "index": index}))
        usage = {**self._usage(), "output_tokens": self._choice.tokens}
        if thought := count_tokens(self._choice.reasoning):
            usage["output_tokens_details"] = {"thinking_tokens": thought}
        events.append(event({"type": "message_delta", "delta": self._ending(), "usage": usage}))
        events.append(event({"type": "message_stop"}))
        return events

    def _envelope(self) -> JsonObject:
        return {"id": self._id, "type": "message", "role": "assistant", "model": self._model}

    def _blocks(self) -> Iterator[JsonObject]:
        if self._choice.reasoning:
            yield {"type": "thinking", "thinking": self._choice.reasoning, "signature": f"signed:{self._id}"}
        if self._choice.text:
            yield {"type": "text", "text": self._choice.text}
        for call in self._choice.tool_calls:
            arguments = orjson.Fragment(call.arguments)
            yield {"type": "tool_use", "id": call.id.replace("call", "toolu"), "name": call.name, "input": arguments}

    def _ending(self) -> JsonObject:
        details = None
        reason = _STOP_REASONS[self._choice.finish_reason]
        if self._choice.refusal:
            reason = "refusal"
            details = {"type": "refusal", "category": None, "explanation": self._choice.refusal}
        elif self._stopped is not None:
            reason = "stop_sequence"
        return {"stop_reason": reason, "stop_sequence": self._stopped, "stop_details": details}

    def _usage(self) -> JsonObject:
        return {
            "input_tokens": self._prompt_tokens - self._read - self._written,
            "cache_read_input_tokens": self._read,
            "cache_creation_input_tokens": self._written,
            "service_tier": "standard",
        }


def counted_tokens(body: Mapping[str, object]) -> bytes:
    """Return the response of `/v1/messages/count_tokens`.

    Raises:
        InvalidRequestError: the request has a field that only `/v1/messages` has.
    """
    for name in body:
        if name not in _COUNTED:
            raise InvalidRequestError("Extra inputs are not permitted", name)
    texts = [block.get("text") for message in messages_of(body) for block in _blocks_of(message)]
    texts.append(body.get("system"))
    return orjson.dumps({"input_tokens": sum(count_tokens(text) for text in texts if isinstance(text, str))})


def _check(body: Mapping[str, object], betas: str) -> None:
    for name in body:
        if name not in _FIELDS and not (name in _BETA_FIELDS and _BETA_FIELDS[name] in betas):
            raise InvalidRequestError("Extra inputs are not permitted", name)
    limit = body.get("max_tokens")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidRequestError("Field required", "max_tokens")
    temperature = body.get("temperature")
    if temperature is not None and not (isinstance(temperature, int | float) and 0 <= temperature <= 1):
        raise InvalidRequestError("range: 0..1", "temperature")
    open_calls: set[object] = set()
    for index, message in enumerate(messages_of(body)):
        if index and message.get("role") == "system" and _SYSTEM_BETA in betas:
            continue  # as Claude Code sends it, also between a tool's result and the response
        open_calls = _check_message(message, f"messages.{index}", open_calls)
    require_what_anthropic_does(body)


def _check_message(message: JsonObject, where: str, open_calls: set[object]) -> set[object]:
    """Return the ids of the tool calls whose results the next message must contain."""
    if message.get("role") not in ("user", "assistant"):
        raise InvalidRequestError("unexpected role", f"{where}.role")
    blocks = _blocks_of(message)
    texts = [block.get("text") for block in blocks if block.get("type") == "text"]
    if not all(texts):
        raise InvalidRequestError("text content blocks must be non-empty", where)
    if not all(str(text).strip() for text in texts):
        raise InvalidRequestError("text content blocks must contain non-whitespace text", where)
    results = {block.get("tool_use_id") for block in blocks if block.get("type") == "tool_result"}
    if results != open_calls:
        message_text = "each tool_use must have a tool_result in the next message, and each tool_result its tool_use"
        raise InvalidRequestError(message_text, where)
    return {block.get("id") for block in blocks if block.get("type") == "tool_use"}


def _blocks_of(message: Mapping[str, object]) -> list[JsonObject]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content or not all(isinstance(block, dict) for block in content):
        raise InvalidRequestError("must be text or a list of blocks", "content")
    return content


def _as_openai(body: Mapping[str, object]) -> JsonObject:
    """Return the request in OpenAI's shape, which the simulated model reads."""
    asked: JsonObject = {
        "messages": [message for given in messages_of(body) for message in _messages(given)],
        "max_tokens": body["max_tokens"],
        "stop": body.get("stop_sequences"),
    }
    tools = body.get("tools")
    if isinstance(tools, list):
        asked["tools"] = [
            {"type": "function", "function": {"name": tool.get("name"), "parameters": tool.get("input_schema")}}
            for tool in tools
        ]
    match body.get("tool_choice"):
        case {"type": "any"}:
            asked["tool_choice"] = "required"
        case {"type": "tool", "name": name}:
            asked["tool_choice"] = {"type": "function", "function": {"name": name}}
        case {"type": "none"}:
            asked["tool_choice"] = "none"
    match body.get("tool_choice"):
        case {"disable_parallel_tool_use": True}:
            asked["parallel_tool_calls"] = False
    match body.get("output_config"):
        case {"format": {"schema": schema}}:
            asked["response_format"] = {"type": "json_schema", "json_schema": {"schema": schema}}
    match body.get("thinking"):
        case {"type": "enabled" | "adaptive"}:
            asked["reasoning_effort"] = "medium"
    return asked


def _messages(given: JsonObject) -> Iterator[JsonObject]:
    results = [block for block in _blocks_of(given) if block.get("type") == "tool_result"]
    for block in results:
        yield {"role": "tool", "content": block.get("content") or ""}
    others = [block for block in _blocks_of(given) if block.get("type") != "tool_result"]
    if others:
        yield {"role": given["role"], "content": others}


def _stop_sequence(asked: Mapping[str, object], label: str, choice: Choice) -> str | None:
    """Return the stop sequence that ended the response, or None."""
    stops = asked.get("stop")
    if choice.finish_reason != "stop" or not isinstance(stops, list):
        return None
    whole = choices_of({**asked, "stop": None}, label)[0].text
    return next((stop for stop in stops if whole.startswith(choice.text + stop)), None)


def _in_pieces(block: JsonObject) -> tuple[JsonObject, list[JsonObject]]:
    """Return a content block at its start, and the deltas that fill it."""
    match block:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces(text)]
        case {"type": "thinking", "thinking": str(text), "signature": signature}:
            deltas: list[JsonObject] = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(text)]
            deltas.append({"type": "signature_delta", "signature": signature})
            return {"type": "thinking", "thinking": "", "signature": ""}, deltas
        case _:
            text = orjson.dumps(block["input"]).decode()
            # The first delta of input is always empty.
            parts = ["", *(pieces(text) if text != "{}" else ())]
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]
