"""Every route that needs an API key, with the scope that it needs: the registry, written a second time by hand.

A guard that requires another scope by mistake differs from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NOTHING_THERE = {"{key_id}": "0" * 12, "{model:path}": "no-such/model", "{id}": "no-such-request",
                  "{response_id}": "resp_no-such"}  # fmt: skip


@dataclass(frozen=True)
class Expected:
    """The scope that a route needs, and a request that changes nothing."""

    scope: str | None
    status: int
    """The status of the request for a caller with the scope."""
    body: Mapping[str, Any] | None = None


GUARDED: Mapping[str, Expected] = {
    "POST /v1/platform/chat": Expected("platform:chat", 200, {"prompt": "Hello"}),
    "POST /v1/chat/completions": Expected("platform:chat", 200, {"messages": [{"role": "user", "content": "Hello"}]}),
    "POST /v1/responses": Expected("platform:chat", 200, {"input": "Hello"}),
    "GET /v1/responses/{response_id}": Expected("platform:chat", 404),
    "DELETE /v1/responses/{response_id}": Expected("platform:chat", 404),
    "POST /v1/messages": Expected(
        "platform:chat", 200, {"max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}
    ),
    "POST /v1/messages/count_tokens": Expected(
        "platform:chat", 200, {"messages": [{"role": "user", "content": "Hello"}]}
    ),
    "POST /v1/embeddings": Expected("platform:embeddings", 200, {"input": "Hello"}),
    "GET /v1/models": Expected("platform:models:read", 200),
    "GET /v1/models/{model:path}": Expected("platform:models:read", 404),
    "POST /v1/platform/api-keys": Expected("platform:api_keys:manage", 422, {}),
    "GET /v1/platform/api-keys": Expected("platform:api_keys:read", 200),
    "GET /v1/platform/api-keys/{key_id}": Expected("platform:api_keys:read", 404),
    "PATCH /v1/platform/api-keys/{key_id}": Expected("platform:api_keys:manage", 404, {}),
    "POST /v1/platform/api-keys/{key_id}/rotate": Expected("platform:api_keys:manage", 404, {}),
    "POST /v1/platform/api-keys/{key_id}/revoke": Expected("platform:api_keys:manage", 404, {"reason": "a test"}),
    "GET /v1/platform/audit": Expected("platform:audit:read", 200),
    "GET /v1/platform/requests/{id}": Expected("platform:audit:read", 404),
    "GET /v1/platform/usage": Expected(None, 200),
    "GET /v1/platform/limits": Expected(None, 200),
}


def path_of(template: str) -> str:
    """Return a path of the route whose parameters are well-formed and name nothing."""
    for parameter, value in _NOTHING_THERE.items():
        template = template.replace(parameter, value)
    return template
