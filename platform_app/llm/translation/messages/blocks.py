"""Read content blocks of a Messages request as a chat completion's parts."""

from collections.abc import Sequence
from typing import Any

from platform_app.llm.errors import unsupported

Fields = dict[str, Any]
_CACHE = "cache_control"


def blocks_of(content: object, where: str) -> list[Fields]:
    """Return the blocks of a content, which may be a text."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise unsupported(where, "must be a text or a list of content blocks")
    for index, block in enumerate(content):
        if not isinstance(block, dict):
            raise unsupported(f"{where}.{index}", "must be a content block")
    return content


def text_part(block: Fields, where: str) -> Fields:
    """Return the part of a text block."""
    if not isinstance(block.get("text"), str):
        raise unsupported(f"{where}.text", "is required")
    return _marked({"type": "text", "text": block["text"]}, block)


def parts_of(block: Fields, where: str) -> list[Fields]:
    """Return the parts of a user's content block.

    Raises:
        UnsupportedByProvider: a chat completion cannot express the block.
    """
    match block.get("type"):
        case "text":
            return [text_part(block, where)]
        case "image":
            return [_marked({"type": "image_url", "image_url": {"url": _image_url(block, where)}}, block)]
        case "document":
            return _document(block, where)
        case kind:
            raise unsupported(where, f"blocks of type '{str(kind)[:64]}' are not available on this model")


def content_of(parts: Sequence[Fields]) -> str | list[Fields]:
    """Return parts as a content. One plain text becomes a text, which every server accepts, and so do no parts."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        text: str = parts[0]["text"]
        return text
    return list(parts)


def _image_url(block: Fields, where: str) -> str:
    match block.get("source"):
        case {"type": "base64", "media_type": str(media_type), "data": str(data)}:
            return f"data:{media_type};base64,{data}"
        case {"type": "url", "url": str(url)}:
            return url
        case {"type": str(kind)}:
            raise unsupported(f"{where}.source", f"of type '{kind[:64]}' is not available on this model")
        case _:
            raise unsupported(f"{where}.source", "is required")


def _document(block: Fields, where: str) -> list[Fields]:
    """Return a document as a file, or as text with its title and context before it."""
    cited = block.get("citations")
    if isinstance(cited, dict) and cited.get("enabled"):
        raise unsupported(f"{where}.citations", "are not available on this model")
    title = block.get("title")
    head = [text for text in (title, block.get("context")) if isinstance(text, str) and text]
    match block.get("source"):
        case {"type": "base64", "media_type": str(media_type), "data": str(data)}:
            name = title if isinstance(title, str) and title else "document.pdf"
            file = {"filename": name, "file_data": f"data:{media_type};base64,{data}"}
            context = [{"type": "text", "text": text} for text in head[1:]]
            return [*context, _marked({"type": "file", "file": file}, block)]
        case {"type": "text", "data": str(text)}:
            return [_marked({"type": "text", "text": "\n\n".join([*head, text])}, block)]
        case {"type": "content", "content": content}:
            inner = blocks_of(content, f"{where}.source.content")
            parts = [part for index, each in enumerate(inner) for part in parts_of(each, f"{where}.source.{index}")]
            if parts:
                parts[-1] = _marked(parts[-1], block)
            return [*({"type": "text", "text": text} for text in head), *parts]
        case {"type": str(kind)}:
            raise unsupported(
                f"{where}.source", f"of type '{kind[:64]}' is not available on this model; send the document inline"
            )
        case _:
            raise unsupported(f"{where}.source", "is required")


def _marked(part: Fields, block: Fields) -> Fields:
    mark = block.get(_CACHE)
    return part if mark is None else {**part, _CACHE: mark}
