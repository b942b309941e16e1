"""Set texts of members of a JSON object in the object's text; every other byte stays as it was received.

A member whose name is unique in the text is found by its name, as in openai/json_patch.py. A Response object is nested,
and each of its items has an `id`, so any other member is found by its path, which takes longer.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from apps.platform_api.openai.json_patch import text_of_only_member
from platform_app.llm.codecs import lenient_json
from platform_app.llm.errors import bad_response

Path = tuple[str, ...]
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]:,]', re.DOTALL)


def with_texts(raw: bytes, body: Mapping[str, Any], texts: Mapping[Path, str]) -> bytes:
    """Return the object with these members set. Each path leads to a member of `body`, which is `raw` parsed.

    Raises:
        ProviderBadResponse: the object must be serialized, and is nested too deeply for that.
    """
    spans = _spans_by_name(raw, texts)
    if spans is None:
        spans = _spans(raw, texts)
        if spans.keys() != texts.keys():
            return _written(body, texts)
    for path, (start, end) in sorted(spans.items(), key=lambda each: each[1], reverse=True):
        raw = b"%b%b%b" % (raw[:start], orjson.dumps(texts[path]), raw[end:])
    return raw


def _spans_by_name(raw: bytes, wanted: Mapping[Path, str]) -> dict[Path, tuple[int, int]] | None:
    """Return where the values of these members are, or None if one of the names is not unique in the text."""
    if b"\\u" in raw:  # a name can be written with escapes, and then it is not found
        return None
    spans = {}
    for path in wanted:
        span = text_of_only_member(raw, path[-1])
        if span is None:
            return None
        spans[path] = span
    return spans


def _spans(raw: bytes, wanted: Mapping[Path, str]) -> dict[Path, tuple[int, int]]:
    """Return where the values of these members are. A value that is not a text is missing."""
    depths = {len(path) for path in wanted}
    deepest = max(depths)
    found: dict[Path, tuple[int, int]] = {}
    keys = [""] * (deepest + 1)
    depth, last, path = 0, (0, 0), None
    for token in _TOKEN.finditer(raw):
        start = token.start()
        match raw[start : start + 1]:
            case b'"':
                if path is not None:
                    found[path] = token.span()
                    path = None
                    if len(found) == len(wanted):
                        break
                last = token.span()
            case b":":
                if depth <= deepest:
                    keys[depth] = raw[last[0] + 1 : last[1] - 1].decode("utf-8", "replace")
                    here = tuple(keys[1 : depth + 1])
                    path = here if depth in depths and here in wanted else None
            case b"{" | b"[":
                depth, path = depth + 1, None
            case b"}" | b"]":
                depth, path = depth - 1, None
            case _:
                path = None
    return found


def _written(body: Mapping[str, Any], texts: Mapping[Path, str]) -> bytes:
    made: dict[str, Any] = dict(body)
    for path, text in texts.items():
        inner = made
        for name in path[:-1]:
            inner[name] = dict(inner[name])
            inner = inner[name]
        inner[path[-1]] = text
    try:
        return lenient_json.dumps(made)
    except ValueError:
        raise bad_response("the response is nested too deeply") from None
