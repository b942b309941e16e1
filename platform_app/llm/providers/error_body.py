"""Read the error body of a provider, whatever its shape.

OpenAI's and Anthropic's `{"error": {…}}` are two of many: FastAPI's `{"detail": [{"loc", "msg"}]}` (Mistral), vLLM's
`{"object": "error", "message"}`, `{"error": "text"}` (Ollama, TGI), `{"message"}`, RFC 9457's `title` and `detail`,
OpenRouter's `metadata.raw`, a list of any of them, JSON within a text, plain text, and a proxy's HTML page.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass

from platform_app.llm.codecs import lenient_json
from platform_app.llm.codecs.content_encoding import is_compressed
from platform_app.observability.logs.escaping import HIDDEN

MAX_MESSAGE = 2000
"""The characters that are kept of a provider's message. Callers and the log get less."""
_MAX_TEXT_BYTES = 16 * 1024
_MAX_DEPTH = 8
_MAX_ITEMS = 8
_MESSAGE_MEMBERS = (
    "message", "detail", "msg", "error", "errors", "error_message", "error_msg", "errorMessage", "error_description",
    "description", "details", "fieldViolations", "reason", "title", "fault", "faultstring", "metadata", "raw",
    "Message", "ExceptionMessage", "base_resp", "status_msg",
)  # fmt: skip
"""Members with a message for people, or with an object that has such members; the most specific first."""
_BY_FIELD = ("errors", "detail")
"""Members that may be an object with one message for each field."""
_WITHIN = ("error", "detail", "errors", "message", "fault", "base_resp")
"""Members that may be the inner error object."""
_NAMES = (
    "code", "type", "param", "status", "status_code", "statusCode", "error_type", "error_code", "http_status_code",
    "http_code",
)  # fmt: skip
_PROGRESS = frozenset(
    {"queued", "pending", "processing", "in_progress", "running", "starting", "loading", "success", "ok", "completed"}
)
"""States of a response that is not an error, which some servers send with a `message`."""
_CUT = re.compile(rb'"(?:message|detail|msg|error|error_description)"\s*:\s*("(?:[^"\\]|\\.){1,2000})')
_TAGS = re.compile(r"<[^<>]*>")
_UNSEEN = re.compile(r"</?(?:script|style)\b[^<>]*>", re.IGNORECASE)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Control characters, and characters that reorder or hide the text around them.
_CONTROLS = re.compile(rf"[\x00-\x20\xa0\u202f{HIDDEN}]+")
_HALVES = re.compile("[\ud800-\udfff]")
_LETTER = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The content of a provider's error body."""

    fields: Mapping[str, object]
    """The members of the error object, unchanged: `code`, `type`, `param` and so on."""
    message: str | None = None
    """The message for people; one line without control characters. Keys are not masked."""
    field: str | None = None
    """The path of the invalid request field, if a validation error names it."""


def read_error_body(headers: Mapping[str, str], body: bytes) -> ErrorBody:
    """Read the body of a response that is not a 200. The body may be truncated."""
    if is_compressed(headers.get("content-encoding", "")):
        return ErrorBody({})
    try:
        value = lenient_json.loads(body)
    except ValueError:
        return _read_text(body)
    return error_body_of(value)


def error_body_of(value: object) -> ErrorBody:
    """Read an error that is parsed JSON: a whole body, an event's data, or the error object in it."""
    messages: list[str] = []
    _collect(value, messages, 0)
    found = value[0] if isinstance(value, list) and value else value
    fields = _error_object(found, 0) if isinstance(found, dict) else {}
    if not messages:
        messages = [text for name in ("code", "type", "status") if isinstance(text := fields.get(name), str)][:1]
    return ErrorBody(fields, clean("; ".join(messages)), _field(fields))


def is_error_list(value: object) -> bool:
    """Return whether a list that should be a response, or a part of one, begins with a provider's error instead."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and is_error_body(value[0])


def is_error_body(body: Mapping[str, object]) -> bool:
    """Return whether an object that should be a response, or a part of one, is a provider's error instead. Call it only
    for an object without choices, since a `message` alone is no proof."""
    if body.get("error") or body.get("object") == "error" or body.get("type") == "error":
        return True
    if any(isinstance(body.get(name), str | list | dict) and body[name] for name in ("detail", "errors")):
        return True
    if "object" in body:
        return False
    if body.get("success") is False or body.get("error_code") or body.get("error_msg") or _has_failed_base(body):
        return True
    text = next((body[name] for name in ("message", "msg", "Message") if isinstance(body.get(name), str)), "")
    named = any(body.get(name) for name in _NAMES if name != "status") or _names_failure(body.get("status"))
    return bool(text) and (named or len(body) == 1)


def _has_failed_base(body: Mapping[str, object]) -> bool:
    """Return whether MiniMax's member for the state of every response has an error's code."""
    base = body.get("base_resp")
    return isinstance(base, dict) and base.get("status_code") not in (None, 0)


def _names_failure(status: object) -> bool:
    return bool(status) and not (isinstance(status, str) and status.lower() in _PROGRESS)


def clean(text: str) -> str | None:
    """Return the text as one line that a log or a terminal can show; None if nothing is left."""
    text = _ESCAPES.sub("", text[: 2 * MAX_MESSAGE])
    text = _HALVES.sub("\ufffd", _CONTROLS.sub(" ", text)).strip()[:MAX_MESSAGE]
    return text if _LETTER.search(text) else None


def _collect(value: object, into: list[str], depth: int) -> None:
    """Add every message for people to `into`, each once."""
    if depth > _MAX_DEPTH or len(into) >= _MAX_ITEMS:
        return
    if isinstance(value, str):
        _collect_text(value, into, depth)
    elif isinstance(value, list):
        for item in value[:_MAX_ITEMS]:
            _collect(item, into, depth + 1)
    elif isinstance(value, dict):
        where = _path(value.get("loc") or value.get("field"))
        before = len(into)
        for name in _MESSAGE_MEMBERS:
            if name in value:
                _collect(value[name], into, depth + 1)
                if len(into) == before and name in _BY_FIELD and isinstance(value[name], dict):
                    _collect_by_field(value[name], into, depth + 1)
        if where and len(into) > before:
            into[before] = f"{where}: {into[before]}"


def _collect_text(text: str, into: list[str], depth: int) -> None:
    text = text[: 2 * MAX_MESSAGE].strip()
    if text.startswith(("{", "[")):  # the JSON error of a server behind the provider
        try:
            return _collect(lenient_json.loads(text.encode("utf-8", "replace")), into, depth + 1)
        except ValueError:
            pass
    if text and not any(text in each for each in into):
        into.append(text)


def _collect_by_field(errors: Mapping[str, object], into: list[str], depth: int) -> None:
    for name, value in list(errors.items())[:_MAX_ITEMS]:
        before = len(into)
        _collect(value, into, depth)
        if len(into) > before:
            into[before] = f"{name}: {into[before]}"


def _error_object(value: Mapping[str, object], depth: int) -> Mapping[str, object]:
    """Return the innermost error object, with the members that only the objects around it have."""
    for name in _WITHIN:
        child = value.get(name)
        if isinstance(child, list) and child:
            child = child[0]
        if isinstance(child, dict) and depth < _MAX_DEPTH:
            around = {each: value[each] for each in _NAMES if value.get(each) is not None}
            return {**around, **_error_object(child, depth + 1)}
    return value


def _field(fields: Mapping[str, object]) -> str | None:
    return _path(fields.get("loc") or fields.get("field"))


def _path(location: object) -> str | None:
    """Return `messages.0.content` for ["body", "messages", 0, "content"]."""
    if isinstance(location, str):
        return location or None
    if not isinstance(location, list) or not all(isinstance(part, str | int) for part in location[:20]):
        return None
    parts = location[1:] if len(location) > 1 and location[0] in ("body", "query", "path") else location
    return ".".join(str(part) for part in parts[:20])[:200] or None


def _read_text(body: bytes) -> ErrorBody:
    """Read a body that is not JSON: text, an HTML page, an event stream, or truncated JSON."""
    start = body[:_MAX_TEXT_BYTES].removeprefix(lenient_json.BOM).lstrip()
    if start.startswith((b"data:", b"event:", b":")):
        return _read_events(start)
    if start.startswith((b"{", b"[")):
        return ErrorBody({}, _message_of_cut_json(start))
    text = start.decode("utf-8", "replace")
    if start.startswith(b"<"):
        text = " ".join(_TAGS.sub(" ", part) for part in _UNSEEN.split(text)[::2])
        text = html.unescape(text)
    return ErrorBody({}, clean(text))


def _read_events(start: bytes) -> ErrorBody:
    for line in start.splitlines():
        if line.startswith(b"data:"):
            try:
                return error_body_of(lenient_json.loads(line[5:].strip()))
            except ValueError:
                return ErrorBody({}, clean(line[5:].decode("utf-8", "replace")))
    return ErrorBody({})


def _message_of_cut_json(start: bytes) -> str | None:
    found = _CUT.search(start)
    if found is None:
        return None
    text = found[1]
    try:
        return clean(str(lenient_json.loads(text + b'"')))
    except ValueError:
        return clean(text[1:].decode("utf-8", "replace"))
