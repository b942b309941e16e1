"""Change one member of a JSON object in the object's text; every other byte stays as it was received.

Parsing and serializing the object would write numbers differently, and take longer.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from platform_app.llm.codecs import lenient_json
from platform_app.llm.errors import bad_response


def with_text(raw: bytes, body: Mapping[str, Any], name: str, value: str) -> bytes:
    """Return the object with this member set to a text, if it has the member.

    Args:
        raw: the object's text.
        body: `raw`, parsed.
        name: the member; ASCII without escapes.
        value: the text.

    Raises:
        ProviderBadResponse: the object must be serialized, and is nested too deeply for that.
    """
    if name not in body:
        return raw
    found = _only(_texts(name), raw) if _only(_keys(name), raw) else None
    if found is None:
        return _written({**body, name: value})
    return b"%b%b%b" % (raw[: found.start(1)], orjson.dumps(value), raw[found.end(1) :])


def with_inner_text(raw: bytes, body: Mapping[str, Any], holder: str, name: str, value: str) -> bytes:
    """As with_text, for a member of the object `holder` within the object."""
    inner = body.get(holder)
    if not isinstance(inner, dict) or name not in inner:
        return raw
    found = _only(_texts(name), raw) if _only(_keys(name), raw) else None
    if found is None:
        return _written({**body, holder: {**inner, name: value}})
    return b"%b%b%b" % (raw[: found.start(1)], orjson.dumps(value), raw[found.end(1) :])


def text_of_only_member(raw: bytes, name: str) -> tuple[int, int] | None:
    """Return where the text of the only member of this name starts and ends; None if there are several, or none, or if
    its value is not a text."""
    found = _only(_texts(name), raw) if _only(_keys(name), raw) else None
    return None if found is None else found.span(1)


def on_one_line(data: bytes) -> bytes:
    """Return JSON without line ends, which would end the event's data. Those inside of texts are escaped already."""
    return data.translate(None, b"\r\n") if b"\n" in data or b"\r" in data else data


def without(raw: bytes, body: Mapping[str, Any], name: str) -> bytes:
    """Return the object without this member; see with_text."""
    if name not in body:
        return raw
    found = _only(_nulls(name), raw) if body[name] is None and _only(_keys(name), raw) else None
    if found is None:
        return _written({member: value for member, value in body.items() if member != name})
    return raw[: found.start()] + raw[found.end() :]


def _written(body: Mapping[str, Any]) -> bytes:
    try:
        return lenient_json.dumps(body)
    except ValueError:  # the parser accepts deeper nesting than the serializer
        raise bad_response("the response is nested too deeply") from None


def _only(pattern: re.Pattern[bytes], raw: bytes) -> re.Match[bytes] | None:
    """Return the only match, or None if there are several: then an inner object may have a member of the same name."""
    found = pattern.search(raw)
    return found if found is not None and pattern.search(raw, found.end()) is None else None


# An unescaped quote inside of a text ends it, so what follows these names and a colon is a member at some level.
@lru_cache(16)
def _keys(name: str) -> re.Pattern[bytes]:
    return re.compile(rb'(?<!\\)"%b"\s*:' % name.encode())


@lru_cache(16)
def _texts(name: str) -> re.Pattern[bytes]:
    return re.compile(rb'(?<!\\)"%b"\s*:\s*("(?:[^"\\]|\\.)*"|null)' % name.encode())


@lru_cache(16)
def _nulls(name: str) -> re.Pattern[bytes]:
    member = rb'(?<!\\)"%b"\s*:\s*null\s*' % name.encode()
    return re.compile(rb",\s*%b(?=[,}])|(?<=\{)\s*%b(?:,|(?=\}))" % (member, member))
