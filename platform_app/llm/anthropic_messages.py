"""OpenAI's messages as Anthropic's: system apart, turns that alternate, contents as blocks."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from platform_app.llm.provider_errors import not_available

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_DATA_URL = re.compile(r"data:([\w.+/-]+);base64,", re.ASCII)

Block = dict[str, Any]


def system_and_messages(given: object) -> tuple[list[Block], list[Block]]:
    """The blocks of all system and developer messages, and the turns of all others.

    Neighbours of one role become one turn; so the results of parallel calls are one turn, as Anthropic wants them.

    Raises:
        ProviderRejectedRequest: naming the message or part that cannot be translated.
    """
    if not isinstance(given, list) or not given:
        raise not_available("messages", "must be a list with at least one message")
    system: list[Block] = []
    turns: list[Block] = []
    for index, message in enumerate(given):
        where = f"messages.{index}"
        if not isinstance(message, dict):
            raise not_available(where, "must be an object")
        match message.get("role"):
            case "system" | "developer":
                system += _texts(message.get("content"), where)
            case "user":
                _add(turns, "user", _parts(message.get("content"), where))
            case "assistant":
                _add(turns, "assistant", _assistant(message, where))
            case "tool":
                _add(turns, "user", [_result(message, where)])
            case _:
                raise not_available(f"{where}.role", "must be system, developer, user, assistant or tool on this model")
    if not turns:
        raise not_available("messages", "must have a message that is not of the system on this model")
    return system, turns


def _add(turns: list[Block], role: str, blocks: list[Block]) -> None:
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _assistant(message: Mapping[str, Any], where: str) -> list[Block]:
    """Thinking comes first: it must be given back unchanged with its signature, before what followed from it."""
    blocks: list[Block] = []
    thinking = message.get("thinking_blocks")
    if isinstance(thinking, list):
        blocks += [block for block in thinking if isinstance(block, dict)]
    if message.get("content") is not None:
        blocks += _texts(message["content"], where)
    if isinstance(message.get("refusal"), str):
        blocks += _text(message["refusal"])
    if message.get("audio") is not None:
        raise not_available(f"{where}.audio", "is not available on this model")
    if message.get("function_call") is not None:
        raise not_available(f"{where}.function_call", "is not available on this model; use tool_calls")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise not_available(f"{where}.tool_calls", "must be a list")
    return blocks + [_call(call, f"{where}.tool_calls.{index}") for index, call in enumerate(calls)]


def _call(call: Any, where: str) -> Block:
    match call:
        case {"id": str(call_id), "function": {"name": str(name), **function}}:
            return {
                "type": "tool_use",
                "id": call_id,
                "name": name,
                "input": _arguments(function.get("arguments"), f"{where}.function.arguments"),
            }
        case _:
            raise not_available(where, "must be a function's call, with id and name, on this model")


def _arguments(text: object, where: str) -> Mapping[str, Any]:
    if text is None or text == "":
        return {}
    try:
        value = orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise not_available(where, "must be a JSON object as text on this model")
    return value


def _result(message: Mapping[str, Any], where: str) -> Block:
    call_id = message.get("tool_call_id")
    if not isinstance(call_id, str):
        raise not_available(f"{where}.tool_call_id", "is required")
    block: Block = {"type": "tool_result", "tool_use_id": call_id}
    if content := _parts(message.get("content"), where):
        block["content"] = content
    return block


def _parts(content: object, where: str) -> list[Block]:
    """Blocks of a message that may hold more than text."""
    if isinstance(content, str):
        return _text(content)
    if not isinstance(content, list):
        raise not_available(f"{where}.content", "must be text or a list of parts")
    blocks: list[Block] = []
    for index, part in enumerate(content):
        blocks += _part(part, f"{where}.content.{index}")
    return blocks


def _part(part: Any, where: str) -> list[Block]:
    match part:
        case {"type": "text", "text": str(text)}:
            blocks = _text(text)
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            blocks = [{"type": "image", "source": _image_source(url, where)}]
        case {"type": "file", "file": {"file_data": str(url), **file}}:
            blocks = [_document(url, file.get("filename"), where)]
        case {"type": str(kind)}:
            raise not_available(where, f"parts like this of type '{kind[:40]}' are not available on this model")
        case _:
            raise not_available(where, "must be a part with a type")
    if blocks and isinstance(part.get("cache_control"), dict):
        blocks[-1]["cache_control"] = part["cache_control"]
    return blocks


def _texts(content: object, where: str) -> list[Block]:
    """Blocks of a message that can hold nothing but text."""
    if isinstance(content, list):
        for index, part in enumerate(content):
            if isinstance(part, dict) and part.get("type") == "refusal":
                continue
            if not isinstance(part, dict) or part.get("type") != "text":
                raise not_available(f"{where}.content.{index}", "must be text on this model")
        content = [_refusal_as_text(part) for part in content]
    return _parts(content, where)


def _refusal_as_text(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "text", "text": part.get("refusal")} if part["type"] == "refusal" else part


def _text(text: str) -> list[Block]:
    """Anthropic refuses empty texts, which say nothing."""
    return [{"type": "text", "text": text}] if text else []


def _image_source(url: str, where: str) -> Block:
    if url.startswith("https://"):
        return {"type": "url", "url": url}
    media_type, data = _data_url(url)
    if media_type not in IMAGE_TYPES:
        raise not_available(where, "must be an https:// URL, or a base64 data: URL of a JPEG, PNG, GIF or WebP image")
    return {"type": "base64", "media_type": media_type, "data": data}


def _document(url: str, name: object, where: str) -> Block:
    media_type, data = _data_url(url)
    if media_type != "application/pdf":
        raise not_available(where, "must be a base64 data: URL of a PDF on this model")
    block: Block = {"type": "document", "source": {"type": "base64", "media_type": media_type, "data": data}}
    if isinstance(name, str) and name:
        block["title"] = name
    return block


def _data_url(url: str) -> tuple[str | None, str]:
    match = _DATA_URL.match(url)
    return (match[1].lower(), url[match.end() :]) if match else (None, "")
