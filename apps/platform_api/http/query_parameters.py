"""Refuse query parameters that a route does not have.

FastAPI ignores unknown parameters, and uses the last of repeated ones. An ignored parameter is worse than an error:
with a misspelt filter the response has all entries.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_origin
from urllib.parse import parse_qsl

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.types import Scope

from platform_app.errors import ValidationFailed

MAX_PARAMETERS = 64
MAX_NAME = 64
"""Characters of a name that a message repeats."""
_MAX_DETAILS = 20

OF_ANY_CLIENT: Mapping[str, frozenset[str]] = {
    "/v1/models": frozenset({"limit", "after_id", "before_id", "beta", "client_version"}),
    "/v1/models/{model}": frozenset({"beta", "client_version"}),
    "/v1/messages": frozenset({"beta"}),
    "/v1/messages/count_tokens": frozenset({"beta"}),
}
"""Anthropic's clients and Codex send these. Anthropic's shape of the list has pages; elsewhere they are ignored."""
AZURE_VERSION = "api-version"
"""Azure's clients send it with every request. Every version is accepted and ignored."""


def refuse_unknown_parameters(scope: Scope, *, openai: bool) -> None:
    """Check a query that is not empty against the parameters of its route.

    Raises:
        ValidationFailed: each detail names a parameter that the route does not have, or that is repeated.
    """
    query: bytes = scope["query_string"]
    if query.count(b"&") >= MAX_PARAMETERS:
        raise _invalid([f"query: at most {MAX_PARAMETERS} parameters are taken"])
    route = scope["route"]
    known = dict(_parameters(route.dependant)) if isinstance(route, APIRoute) else {}
    ignored = OF_ANY_CLIENT.get(route.path_format, frozenset()) | ({AZURE_VERSION} if openai else set())
    seen: set[str] = set()
    problems = []
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name in known:
            if name in seen and not known[name]:
                problems.append(f"{name}: is repeated; send it once")
            seen.add(name)
        elif name not in ignored:
            problems.append(f"{name[:MAX_NAME]}: {_unknown(name, known)}")
    if problems:
        raise _invalid(problems)


def _parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Yield each parameter's name, and whether it may be repeated."""
    for field in dependant.query_params:
        yield field.alias, get_origin(field.field_info.annotation) is list
    for inner in dependant.dependencies:
        yield from _parameters(inner)


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    if not known:
        return "is not a parameter: this route has no query parameters"
    close = get_close_matches(name[:MAX_NAME].lower(), known, 1, 0.6)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"is not a parameter of this route, which has {', '.join(known)}.{hint}"


def _invalid(problems: list[str]) -> ValidationFailed:
    details = list(dict.fromkeys(problems))[:_MAX_DETAILS]
    return ValidationFailed("The request is not valid.", details=details, param=details[0].partition(": ")[0])
