"""The two changes to a provider's answer, made in its bytes: whatever else it holds stays as it was written.

A member's name in quotes cannot stand inside of a JSON text, where its quotes would be escaped. So where it stands
once, it is the one that the parser found; else, or where it is written in another way, the answer is written anew.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from platform_app.llm.provider_errors import bad_response

_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]++|\\.)*+")')
_NO_USAGE = re.compile(rb',\s*"usage"\s*:\s*null(?=\s*[,}])')


def with_model(raw: bytes, body: Mapping[str, Any], model: str) -> bytes:
    """The answer with this `model` in place of its own; as it is where it has none. `body` is what `raw` says.

    Raises:
        ProviderBadResponse: it is nested too deeply to be written.
    """
    if "model" not in body:
        return raw
    if raw.count(b'"model"') == 1 and (found := _MODEL.search(raw)) and orjson.loads(found[1]) == body["model"]:
        return raw[: found.start(1)] + orjson.dumps(model) + raw[found.end(1) :]
    return _written({**body, "model": model})


def without_usage(raw: bytes, body: Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any]]:
    """A chunk without its `usage`, in both forms. Raises like `with_model`."""
    less = {name: value for name, value in body.items() if name != "usage"}
    if body["usage"] is None and raw.count(b'"usage"') == 1 and (found := _NO_USAGE.search(raw)):
        return raw[: found.start()] + raw[found.end() :], less
    return _written(less), less


def _written(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise bad_response("the answer is nested too deeply") from None
