"""Translate OpenAI's messages to Anthropic's: a separate system prompt, alternating turns, contents as blocks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from platform_app.llm.codecs.exact_json import is_json_object
from platform_app.llm.codecs.value_count import ValueBudget
from platform_app.llm.errors import too_many_values, unsupported
from platform_app.llm.providers.anthropic.chat.images import document, image_source
from platform_app.llm.providers.chat_messages import located_messages, tool_calls_of
from platform_app.llm.providers.tools.ids import ToolIds

Block = dict[str, Any]
_CACHE = "cache_control"
_UNMARKED = ("thinking", "redacted_thinking")
"""Blocks that may not have a `cache_control`."""


@dataclass(slots=True)
class Conversation:
    """The translated messages of a request."""

    system: list[Block] = field(default_factory=list)
    """The blocks of all system and developer messages."""
    turns: list[Block] = field(default_factory=list)
    """All other messages. Adjacent messages of one role are one turn, results of parallel calls included: Anthropic
    requires that."""
    ids: ToolIds = field(default_factory=ToolIds)
    budget: ValueBudget = field(default_factory=ValueBudget)
    """The values that the arguments of all calls may have."""
    _results: int = 0
    """The number of results at the beginning of the last turn."""

    def add(self, role: str, blocks: list[Block]) -> None:
        """Add the blocks of a message, if it has any."""
        if not blocks:
            return
        results = len(blocks) if blocks[0]["type"] == "tool_result" else 0  # a message has one result alone
        if not self.turns or self.turns[-1]["role"] != role:
            self.turns.append({"role": role, "content": blocks})
            self._results = results
            return
        content: list[Block] = self.turns[-1]["content"]
        if results:  # Anthropic requires results before all other blocks
            content[self._results : self._results] = blocks
            self._results += results
        else:
            content += blocks


def read_messages(given: object) -> Conversation:
    """Translate the messages.

    Raises:
        ProviderRejectedRequest: a message or part cannot be translated; the error names it.
    """
    made = Conversation()
    where, message = "", dict[str, Any]()
    for where, message in located_messages(given):
        _read(made, message, where)
    _require_results(made)
    if not made.turns:
        raise unsupported("messages", "must have a message with another role than system on this model")
    # The last message is the user's and blank: without it, the response would be different.
    if message["role"] == "user" and made.turns[-1]["role"] == "assistant":
        raise unsupported(f"{where}.content", "must not be blank on this model")
    _trim_prefill(made.turns)
    return made


def _read(made: Conversation, message: Mapping[str, Any], where: str) -> None:
    match message.get("role"):
        case "system" | "developer":
            made.system += _cached(_texts(message.get("content"), where), message, where)
        case "user":
            made.add("user", _cached(_parts(message.get("content"), where), message, where))
        case "assistant":
            if made.turns and made.turns[-1]["role"] == "user":
                _require_results(made)
            blocks = _cached(_assistant(message, where, made), message, where)
            if blocks and not made.turns:
                raise unsupported(f"{where}.role", "must be user in the first turn on this model")
            made.add("assistant", blocks)
        case "tool":
            made.add("user", _cached([_result(message, where, made.ids)], message, where))
        case _:
            raise unsupported(f"{where}.role", "must be system, developer, user, assistant or tool on this model")


def _require_results(made: Conversation) -> None:
    if (call := made.ids.without_result()) is not None:
        raise unsupported(call, "must have a result with its id in the turn after it on this model")


def _trim_prefill(turns: list[Block]) -> None:
    """Trim a prefill, the begun message that the model continues: Anthropic allows no white space at its end."""
    last = turns[-1]
    block = last["content"][-1]
    if last["role"] == "assistant" and block["type"] == "text":
        last["content"][-1] = {**block, "text": block["text"].rstrip()}


def _assistant(message: Mapping[str, Any], where: str, made: Conversation) -> list[Block]:
    """Return the blocks of an assistant's message. Thinking comes first: Anthropic requires it unchanged, with its
    signature, before the content that followed it."""
    blocks = _thinking(message.get("thinking_blocks"), f"{where}.thinking_blocks")
    if message.get("content") is not None:
        blocks += _texts(message["content"], where)
    if isinstance(message.get("refusal"), str):
        blocks += _text(message["refusal"])
    calls = enumerate(tool_calls_of(message, where))
    return blocks + [_call(call, f"{where}.tool_calls.{index}", made) for index, call in calls]


def _thinking(given: object, where: str) -> list[Block]:
    """Return thinking blocks that Anthropic signed or encrypted itself; it refuses all others."""
    if given is None:
        return []
    if not isinstance(given, list):
        raise unsupported(where, "must be a list of blocks from a response")
    for index, block in enumerate(given):
        match block:
            case {"type": "thinking", "thinking": str(), "signature": str(signature)} if signature:
                continue
            case {"type": "thinking"}:
                raise unsupported(
                    f"{where}.{index}.signature", "is required: send thinking back unchanged, or leave it out"
                )
            case {"type": "redacted_thinking", "data": str(data)} if data:
                continue
            case _:
                raise unsupported(f"{where}.{index}", "must be a signed thinking block from a response")
    return list(given)


def _call(call: Any, where: str, made: Conversation) -> Block:
    match call:
        case {"id": str(call_id), "function": {"name": str(name), **function}}:
            block = {
                "type": "tool_use",
                "id": made.ids.call(call_id, where),
                "name": tool_name(name, f"{where}.function.name"),
                "input": _arguments(function.get("arguments"), f"{where}.function.arguments", made.budget),
            }
            return _cached([block], {_CACHE: call.get(_CACHE) or function.get(_CACHE)}, where)[0]
        case _:
            raise unsupported(where, "must be a function call with an id and a name on this model")


def tool_name(name: str, where: str) -> str:
    """Return the name of a tool (see tools/names.py). Raises ProviderRejectedRequest if it is empty."""
    if not name:
        raise unsupported(where, "must not be empty")
    return name


def _arguments(text: object, where: str, budget: ValueBudget) -> object:
    """Return the object as it is written. Parsing would lose digits of integers beyond 64 bits and of long decimals."""
    if text is None or (isinstance(text, str) and not text.strip()):
        return {}
    if isinstance(text, str) and not budget.allows(text):
        raise too_many_values(where)
    if not isinstance(text, str) or not is_json_object(text):
        raise unsupported(where, "must be a JSON object as text on this model")
    return orjson.Fragment(text)


def _result(message: Mapping[str, Any], where: str, ids: ToolIds) -> Block:
    call_id = message.get("tool_call_id")
    if not isinstance(call_id, str):
        raise unsupported(f"{where}.tool_call_id", "is required")
    made = ids.result(call_id)
    if made is None:
        raise unsupported(f"{where}.tool_call_id", "must be the id of a call in the assistant message before it")
    block: Block = {"type": "tool_result", "tool_use_id": made}
    if content := _parts(message.get("content"), where):
        block["content"] = content
    return block


def _parts(content: object, where: str) -> list[Block]:
    """Return the blocks of a message that may have more than text."""
    if isinstance(content, str):
        return _text(content)
    if not isinstance(content, list):
        raise unsupported(f"{where}.content", "must be text or a list of parts")
    blocks: list[Block] = []
    for index, part in enumerate(content):
        place = f"{where}.content.{index}"
        made = _part(part, place)
        # The mark of a blank part marks the block before it.
        blocks += made
        mark(blocks[-1] if blocks else None, _mark_of(part), place)
    return blocks


def _part(part: Any, where: str) -> list[Block]:
    match part:
        case {"type": "text", "text": str(text)}:
            return _text(text)
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return [{"type": "image", "source": image_source(url, where)}]
        case {"type": "image_url", "image_url": str(url)}:
            return [{"type": "image", "source": image_source(url, where)}]
        case {"type": "file", "file": {"file_data": str(url), **file}}:
            return [document(url, file.get("filename"), where)]
        case {"type": "file", "file": {"file_url": str(url)}} if url[:8].lower() == "https://":
            return [{"type": "document", "source": {"type": "url", "url": url}}]
        case {"type": str(kind)}:
            raise unsupported(where, f"parts like this of type '{kind[:40]}' are not available on this model")
        case _:
            raise unsupported(where, "must be a part with a type")


def _texts(content: object, where: str) -> list[Block]:
    """Return the blocks of a message that may have only text."""
    if isinstance(content, list):
        for index, part in enumerate(content):
            if isinstance(part, dict) and part.get("type") == "refusal":
                continue
            if not isinstance(part, dict) or part.get("type") != "text":
                raise unsupported(f"{where}.content.{index}", "must be text on this model")
        content = [_refusal_as_text(part) for part in content]
    return _parts(content, where)


def _refusal_as_text(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**part, "type": "text", "text": part.get("refusal")} if part["type"] == "refusal" else part


def _text(text: str) -> list[Block]:
    """Return a text block, or no block for blank text, which Anthropic refuses."""
    return [{"type": "text", "text": text}] if text and not text.isspace() else []


def _mark_of(part: Mapping[str, Any]) -> object:
    """Return the `cache_control` of a part, next to its content or inside it."""
    inner = part.get(str(part.get("type")))
    return part.get(_CACHE) or (inner.get(_CACHE) if isinstance(inner, dict) else None)


def _cached(blocks: list[Block], message: Mapping[str, Any], where: str) -> list[Block]:
    """Return the blocks. A `cache_control` of the message marks the last block that may have one."""
    last = next((block for block in reversed(blocks) if block["type"] not in _UNMARKED), None)
    mark(last, message.get(_CACHE), where)
    return blocks


def mark(block: Block | None, given: object, where: str) -> None:
    """Mark a block or a tool with a `cache_control`, unless it has one. Raises ProviderRejectedRequest if `given` is
    not valid."""
    if given is None:
        return
    if not isinstance(given, dict):
        raise unsupported(f"{where}.{_CACHE}", 'must be an object such as {"type": "ephemeral"}')
    if block is not None:
        block.setdefault(_CACHE, given)
