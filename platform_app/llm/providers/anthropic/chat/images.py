"""Translate images and documents of OpenAI's parts to Anthropic's sources."""

import re
from typing import Any

from platform_app.llm.errors import unsupported

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/jfif": "image/jpeg",
    "image/x-png": "image/png",
    "application/x-pdf": "application/pdf",
}
"""Unregistered names that programs use, and the registered types."""
_SIGNATURES = (
    ("/9j/", "image/jpeg"),
    ("iVBORw0KGgo", "image/png"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBERi", "application/pdf"),
)
"""The start of the data in base64. Anthropic compares it with the media type, and refuses a PNG labelled as JPEG."""
_MAX_HEAD = 1024
"""The characters before the comma of a data URL: a media type and its options."""
_MEDIA_TYPE = re.compile(r"[\w.+/-]*", re.ASCII)
_ESCAPED = (("%2B", "+"), ("%2F", "/"), ("%3D", "="), ("%0D", ""), ("%0A", ""), ("%09", ""), ("%20", ""))
"""The characters of base64 that programs escape in URLs, and line ends and blanks between them."""


def image_source(url: str, where: str) -> dict[str, Any]:
    """Return the source of an image. Raises ProviderRejectedRequest if Anthropic does not accept it."""
    if url[:8].lower() == "https://":
        return {"type": "url", "url": url}
    media_type, data = _data_url(url)
    if media_type not in IMAGE_TYPES:
        raise unsupported(where, "must be an https:// URL, or a base64 data: URL of a JPEG, PNG, GIF or WebP image")
    return {"type": "base64", "media_type": media_type, "data": data}


def document(url: str, name: object, where: str) -> dict[str, Any]:
    """Return the block of a PDF. Raises ProviderRejectedRequest for other data."""
    media_type, data = _data_url(url if url[:5].lower() == "data:" else f"data:;base64,{url}")
    if media_type != "application/pdf":
        raise unsupported(where, "must be a base64 data: URL of a PDF on this model")
    block: dict[str, Any] = {"type": "document", "source": {"type": "base64", "media_type": media_type, "data": data}}
    if isinstance(name, str) and name:
        block["title"] = name
    return block


def _data_url(url: str) -> tuple[str | None, str]:
    """Return the media type and the data as plain base64. The data shows its type more reliably than its label."""
    comma = url.find(",", 0, _MAX_HEAD)
    if comma < 0 or url[:5].lower() != "data:":
        return None, ""
    declared, *options = (option.strip(" \t").lower() for option in url[5:comma].split(";"))
    if "base64" not in options or _MEDIA_TYPE.fullmatch(declared) is None:
        return None, ""
    data = _plain_base64(url[comma + 1 :])
    if "%" in data:
        return None, ""
    detected = next((kind for start, kind in _SIGNATURES if data.startswith(start)), None)
    return detected or _ALIASES.get(declared, declared), data


def _plain_base64(data: str) -> str:
    """Return the data without escapes and white space. Each step is one search of the text: a general parser of URLs
    makes an object for every escape."""
    if "%" in data:
        for escape, character in _ESCAPED:
            data = data.replace(escape, character).replace(escape.lower(), character)
    for space in " \r\n\t":
        data = data.replace(space, "")
    return data
