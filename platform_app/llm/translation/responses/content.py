"""Translate the content parts of the Responses API to a chat completion's."""

from collections.abc import Mapping, Sequence
from typing import Any

from platform_app.llm.errors import unsupported

Part = dict[str, Any]
_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text"})
_BESIDE = ("cache_control", "prompt_cache_breakpoint")
"""Members of a part that a chat completion's part has too: marks for a provider's prompt cache."""
_FILE_ID = "names a file at a provider and is not available on this model; send its data or URL"


def content_of(given: object, where: str) -> str | list[Part]:
    """Return the content of a message or the output of a call: a single text as text, which every server accepts.

    Raises:
        UnsupportedByProvider: a part is not valid, or a chat completion does not have it.
    """
    if isinstance(given, str):
        return given
    if not isinstance(given, list):
        raise unsupported(where, "must be a text or a list of parts")
    return as_text([_part(part, f"{where}.{index}") for index, part in enumerate(given)])


def as_text(parts: list[Part]) -> str | list[Part]:
    """Return a single unmarked text as text, no parts as an empty text, and other parts unchanged."""
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0].keys() == {"type", "text"} else parts


def assistant_parts(given: object, where: str) -> list[Part]:
    """Return the parts of an assistant's message: texts and refusals.

    Raises:
        UnsupportedByProvider: a part is neither.
    """
    if isinstance(given, str):
        return [{"type": "text", "text": given}]
    if not isinstance(given, list):
        raise unsupported(where, "must be a text or a list of parts")
    made: list[Part] = []
    for index, part in enumerate(given):
        match part:
            case {"type": "refusal", "refusal": str(refusal)}:
                made.append({"type": "refusal", "refusal": refusal})
            case {"type": str(kind), "text": str()} if kind in _TEXTS:
                made.append(_part(part, f"{where}.{index}"))
            case _:
                raise unsupported(f"{where}.{index}", "must be of type output_text or refusal in an assistant message")
    return made


def _part(part: Any, where: str) -> Part:
    match part:
        case {"type": str(kind), "text": str(text)} if kind in _TEXTS:
            made: Part = {"type": "text", "text": text}
        case {"type": "input_image"}:
            made = _image(part, where)
        case {"type": "input_file"}:
            made = _file(part, where)
        case {"type": "input_audio", "input_audio": dict(audio)}:
            made = {"type": "input_audio", "input_audio": audio}
        case {"type": str(kind)} if kind in _TEXTS:
            raise unsupported(f"{where}.text", "must be a text")
        case {"type": str(kind)}:
            raise unsupported(where, f"parts of type '{kind[:40]}' are not available on this model")
        case _:
            raise unsupported(where, "must be a part with a type")
    made.update({name: part[name] for name in _BESIDE if part.get(name) is not None})
    return made


def _image(part: Mapping[str, Any], where: str) -> Part:
    url = part.get("image_url")
    if part.get("file_id") is not None:
        raise unsupported(f"{where}.file_id", _FILE_ID)
    if isinstance(url, Mapping):  # a chat completion's own shape, which some clients send
        url = url.get("url")
    if not isinstance(url, str):
        raise unsupported(f"{where}.image_url", "must be a URL")
    image = {"url": url}
    if isinstance(part.get("detail"), str):
        image["detail"] = part["detail"]
    return {"type": "image_url", "image_url": image}


def _file(part: Mapping[str, Any], where: str) -> Part:
    """Return a file by its data, or by its URL, which OpenAI's chat completions lack and other formats have."""
    if part.get("file_id") is not None:
        raise unsupported(f"{where}.file_id", _FILE_ID)
    file = {name: part[name] for name in ("file_data", "file_url", "filename") if isinstance(part.get(name), str)}
    if "file_data" not in file and "file_url" not in file:
        raise unsupported(f"{where}.file_data", "is required, or file_url")
    return {"type": "file", "file": file}


def refusal_or_content(parts: Sequence[Part]) -> Mapping[str, Any]:
    """Return the members `content` and `refusal` of an assistant's message."""
    if parts and all(part["type"] == "refusal" for part in parts):
        return {"content": None, "refusal": "".join(part["refusal"] for part in parts)}
    return {"content": as_text(list(parts)) if parts else None}
