"""Read the turns of a Messages request as a chat completion's messages.

A turn of the user holds results of tools and other content. The results become one `tool` message each, directly behind
the calls. A `tool` message may have only text at most providers, so images and documents of a result move to the user's
message behind it.
"""

from typing import Any

from platform_app.llm.codecs import lenient_json
from platform_app.llm.codecs.value_count import ValueBudget
from platform_app.llm.errors import unsupported
from platform_app.llm.translation.attachments import attachment_notes
from platform_app.llm.translation.carried import carried_reasoning
from platform_app.llm.translation.messages.blocks import blocks_of, content_of, parts_of, text_part

Fields = dict[str, Any]
_BILLING = "x-anthropic-billing-header:"
"""The start of a system text that Claude Code changes with every request: no instruction, and no prompt cache would
find the beginning of the prompt again."""
REASONING_TEXT = "reasoning_content"
"""The type of a carried item that says that a thinking block is the text of a chat completion's reasoning."""


def system_messages(system: object, where: str = "system") -> list[Fields]:
    """Return the system prompt as a message; none for an empty one."""
    parts = []
    for index, block in enumerate(blocks_of(system, where)):
        place = f"{where}.{index}"
        if block.get("type") != "text":
            raise unsupported(place, "must be text on this model")
        part = text_part(block, place)
        if part["text"] and not part["text"].startswith(_BILLING):
            parts.append(part)
    return [{"role": "system", "content": content_of(parts)}] if parts else []


def chat_messages(given: object) -> list[Fields]:
    """Return the messages of a chat completion.

    Raises:
        UnsupportedByProvider: a chat completion cannot express a block; the error names it.
    """
    if not isinstance(given, list) or not given:
        raise unsupported("messages", "must be a list with at least one message")
    made: list[Fields] = []
    budget = ValueBudget()
    for index, message in enumerate(given):
        where = f"messages.{index}"
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        match role:
            case "user":
                made += _user(blocks_of(content, f"{where}.content"), f"{where}.content")
            case "assistant":
                made += _assistant(blocks_of(content, f"{where}.content"), f"{where}.content", budget)
            case "system":
                made += system_messages(content, f"{where}.content")
            case _:
                raise unsupported(f"{where}.role", "must be user, assistant or system")
    if made and made[-1]["role"] == "assistant":
        last = len(given) - 1
        raise unsupported(f"messages.{last}", "a begun response cannot be continued by this model")
    return made


def _user(blocks: list[Fields], where: str) -> list[Fields]:
    results: list[Fields] = []
    parts: list[Fields] = []
    moved: list[Fields] = []
    for index, block in enumerate(blocks):
        place = f"{where}.{index}"
        if block.get("type") == "tool_result":
            message, others = _result(block, place)
            results.append(message)
            moved += others
        else:
            parts += parts_of(block, place)
    parts = [*moved, *parts]
    return [*results, {"role": "user", "content": content_of(parts)}] if parts or not results else results


def _result(block: Fields, where: str) -> tuple[Fields, list[Fields]]:
    """Return the tool message of a result, and the parts that move to the user's message."""
    call_id = block.get("tool_use_id")
    if not isinstance(call_id, str):
        raise unsupported(f"{where}.tool_use_id", "is required")
    texts: list[Fields] = []
    others: list[Fields] = []
    inner = blocks_of(block.get("content") or "", f"{where}.content")
    for index, each in enumerate(inner):
        for part in parts_of(each, f"{where}.content.{index}"):
            (texts if part["type"] == "text" else others).append(part)
    if others:
        note, head = attachment_notes(len(others), call_id)
        texts.append(note)
        others.insert(0, head)
    if block.get("is_error"):
        texts = _as_error(texts)
    if block.get("cache_control") is not None and texts:
        texts[-1] = {**texts[-1], "cache_control": block["cache_control"]}
    return {"role": "tool", "tool_call_id": call_id, "content": content_of(texts) if texts else ""}, others


def _as_error(texts: list[Fields]) -> list[Fields]:
    """Return the texts so that the model reads that the tool failed, for which a tool message has no field."""
    if not texts:
        return [{"type": "text", "text": "Error"}]
    if texts[0]["text"].lstrip()[:5].lower() == "error":
        return texts
    return [{**texts[0], "text": f"Error: {texts[0]['text']}"}, *texts[1:]]


def _assistant(blocks: list[Fields], where: str, budget: ValueBudget) -> list[Fields]:
    texts: list[Fields] = []
    calls: list[Fields] = []
    items: list[Fields] = []
    thoughts: list[str] = []
    for index, block in enumerate(blocks):
        place = f"{where}.{index}"
        match block.get("type"):
            case "text":
                texts.append(text_part(block, place))
            case "tool_use":
                calls.append(_call(block, place))
            case "thinking":
                item = carried_reasoning(block.get("signature"), f"{place}.signature", budget)
                _add_reasoning(item, block, items, thoughts)
            case "redacted_thinking":
                continue  # only Anthropic can read it
            case kind:
                raise unsupported(place, f"blocks of type '{str(kind)[:64]}' are not available on this model")
    if not texts and not calls:
        return []
    message: Fields = {"role": "assistant", "content": content_of(texts) if texts else None}
    if calls:
        message["tool_calls"] = calls
    if items:
        message["reasoning_items"] = items
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    return [message]


def _add_reasoning(item: Fields | None, block: Fields, items: list[Fields], thoughts: list[str]) -> None:
    """Add the item that a block carries. Thinking that another provider signed has no meaning here."""
    if item is None:
        return
    if item.get("type") != REASONING_TEXT:
        items.append(item)
    elif isinstance(block.get("thinking"), str):
        thoughts.append(block["thinking"])


def _call(block: Fields, where: str) -> Fields:
    if not isinstance(block.get("id"), str) or not isinstance(block.get("name"), str):
        raise unsupported(where, "must have an id and a name")
    arguments = lenient_json.dumps(block.get("input") or {}).decode()
    call: Fields = {
        "id": block["id"], "type": "function", "function": {"name": block["name"], "arguments": arguments},
    }  # fmt: skip
    return call if block.get("cache_control") is None else {**call, "cache_control": block["cache_control"]}
