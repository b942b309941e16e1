"""Suggest an existing route for a path that does not exist. Most of these paths are almost right.

A hint names a route's template, which is public in the OpenAPI document, and repeats nothing of the path. It costs a
few look-ups, whatever the path is.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match, Route

NOTHING_HERE = "There is nothing at this path."
MAX_PATH = 300
"""Longer paths get no hint."""
MAX_SEGMENTS = 8

_CHAT = "use POST /v1/chat/completions"
_NOT_OFFERED: Mapping[str, str] = {
    "responses": "Only POST /v1/responses is offered here of this path.",
    "completions": f"OpenAI's older completions are not offered here; {_CHAT}.",
    "engines": f"OpenAI's engines are not offered here; {_CHAT}.",
    "edits": f"OpenAI's edits are not offered here; {_CHAT}.",
    "messages": "Of Anthropic's Messages API, message batches are not offered here; use POST /v1/messages.",
    "complete": f"Anthropic's text completions are not offered here; {_CHAT}.",
    "generate": f"Ollama's API is not offered here; {_CHAT}.",
    "tags": "Ollama's API is not offered here; use GET /v1/models.",
    **{
        name: f"OpenAI's {what} not offered here. GET /openapi.json lists what is."
        for name, what in {
            "images": "images API is", "audio": "audio API is", "moderations": "moderations are",
            "files": "files API is",
            "uploads": "uploads API is", "batches": "batch API is", "fine_tuning": "fine-tuning API is",
            "fine-tunes": "fine-tuning API is", "assistants": "Assistants API is", "threads": "Assistants API is",
            "vector_stores": "vector stores are", "realtime": "Realtime API is", "videos": "videos API is",
            "evals": "evals API is", "graders": "graders are", "containers": "containers are",
            "conversations": "conversations are", "organization": "administration API is", "chatkit": "ChatKit API is",
            "skills": "skills are", "rerank": "clients' rerank call is", "deployments": "deployments are",
        }.items()
    },
}  # fmt: skip
"""By the first segment after /v1: paths of other APIs. Only read for paths that no route has."""


_ALSO = {"health": "healthz", "ready": "readyz", "live": "livez", "usage": "v1/platform/usage",
         "limit": "v1/platform/limit", "audit": "v1/platform/audit", "key": "v1/platform/apikey",
         "apikey": "v1/platform/apikey", "meta": "v1/meta", "openapi": "openapi.json", "doc": "openapi.json",
         "v1/usage": "v1/platform/usage", "v1/limit": "v1/platform/limit", "v1/audit": "v1/platform/audit",
         "v1/key": "v1/platform/apikey", "v1/apikey": "v1/platform/apikey", "v1/chat": "v1/chat/completion",
         "chat": "v1/chat/completion", "api/chat": "v1/chat/completion"}  # fmt: skip
"""Alternative names of some paths, both as `_plain` writes them."""
_LONGEST_PART = 4


class _Address(NamedTuple):
    path: str
    methods: Sequence[str]


def hint_for(path: str, routes: Sequence[BaseRoute]) -> str:
    """Return the message of a 404: the closest route, or which API is not offered."""
    if len(path) > MAX_PATH:
        return NOTHING_HERE
    segments = _segments(path)
    if not 0 < len(segments) <= MAX_SEGMENTS:
        return NOTHING_HERE
    found = _find(segments, routes)
    if found is not None:
        return f"{NOTHING_HERE} Use {' or '.join(found.methods)} {found.path}{_difference(path, found.path)}."
    if segments == ["v1"]:
        return f"{NOTHING_HERE} It is the base URL of OpenAI's clients, which add a path such as /chat/completions."
    if segments == ["metrics"]:
        return f"{NOTHING_HERE} Metrics are on another port (PLATFORM_METRICS_PORT)."
    below = segments[2 if segments[:2] == ["openai", "v1"] else segments[0] in ("v1", "openai", "api", "v1beta") :]
    if below[:1] == ["deployments"] and len(below) > 2:
        below = below[2:]
    if not below or below[0] not in _NOT_OFFERED:
        return NOTHING_HERE
    return f"{NOTHING_HERE} {_NOT_OFFERED[below[0]]}"


def methods_at(path: str, routes: Iterable[BaseRoute]) -> list[str]:
    """Return the methods of all routes with this path. Starlette's own 405 lists those of the first route only."""
    scope = {"type": "http", "path": path, "method": "", "root_path": ""}
    found = [
        route.methods or () for route in routes if isinstance(route, Route) and route.matches(scope)[0] != Match.NONE
    ]
    return sorted({method for methods in found for method in methods})


def _segments(path: str) -> list[str]:
    path = unquote(path).partition("?")[0].replace("\\", "/").lower()
    return [segment for part in path.split("/") if (segment := part.strip(" \t\r\n\"'.,;"))]


def _find(segments: Sequence[str], routes: Sequence[BaseRoute]) -> _Address | None:
    """Return the route whose path is part of the given one, as it is or after /v1; the longest of several."""
    plain = [_plain(segment) for segment in segments if segment != "openai"]
    known = _by_plain_path(tuple(_listed(routes)))
    whole = known.get("/".join(plain)) or known.get("/".join(["v1", *plain]))
    if whole is not None:
        return whole
    if (found := _with_parameters(segments, routes)) is not None:
        return found
    for length in range(min(len(plain), _LONGEST_PART), 1, -1):
        for start in range(len(plain) - length + 1):
            part = "/".join(plain[start : start + length])
            if (found := known.get(part) or known.get(f"v1/{part}")) is not None:
                return found
    return None


def _with_parameters(segments: Sequence[str], routes: Sequence[BaseRoute]) -> _Address | None:
    """Return a matching route with a parameter, such as /v1/models/{model}."""
    path = "/v1/" + "/".join(segment for segment in segments if segment not in ("v1", "openai")).replace("_", "-")
    found = [
        route
        for route in routes
        if isinstance(route, APIRoute) and "{" in route.path and route.path_regex.match(path) is not None
    ]
    return _Address(found[0].path_format, methods_at(path, found)) if found else None


def _listed(routes: Iterable[BaseRoute]) -> Iterable[_Address]:
    for route in routes:
        if isinstance(route, Route) and "{" not in route.path:
            yield _Address(route.path, tuple(sorted(method for method in route.methods or () if method != "HEAD")))


@lru_cache(8)
def _by_plain_path(addresses: Sequence[_Address]) -> Mapping[str, _Address]:
    """Return addresses by their plain paths, with all methods of a path."""
    together: dict[str, _Address] = {}
    for address in addresses:
        plain = "/".join(_plain(segment) for segment in address.path.split("/") if segment)
        before = together[plain].methods if plain in together else ()
        together[plain] = _Address(address.path, tuple(sorted({*before, *address.methods})))
    for name, path in _ALSO.items():
        if path in together:
            together.setdefault(name, together[path])
    return together


def _plain(segment: str) -> str:
    """Return a segment without dashes, underscores and the plural, which are easily mistaken."""
    return segment.replace("-", "").replace("_", "").rstrip("s")


def _difference(given: str, right: str) -> str:
    if given.rstrip("/") == right:
        return ", without a slash at the end"
    if "//" in given and given.replace("//", "/") == right:
        return ", with single slashes"
    if right == f"/v1{given}":
        return ": paths begin with /v1, so a client's base URL ends in /v1"
    if given.lower() == right:
        return ", in lower case"
    return ""
