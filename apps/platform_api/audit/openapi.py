"""The audit routes in the OpenAPI document."""

from typing import Any

from pydantic import BaseModel, Field

from apps.platform_api.openapi.components import GUARDED, REQUEST_ID, error_responses, json_response
from platform_app import errors

_TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
_ACCESS = {
    "kind": "access",
    "id": "0198c0a0b0c0d0e0f000000000000001",
    "occurred_at": "2026-11-23T08:00:01+00:00",
    "key_id": "x3Fp0aQm81Zz",
    "method": "POST",
    "route": "/v1/platform/chat",
    "decision": "deny",
    "reason": "rate_limited",
    "status": 429,
    "duration_ms": 1.2,
    "count": 1,
    "request_id": REQUEST_ID,
    "trace_id": _TRACE_ID,
    "client_address": "192.0.2.7",
    "owner": "billing",
    "model": "gpt-4o-mini",
    "hops": [
        {"name": "limits", "start_ms": 0.14, "duration_ms": 0.611, "outcome": "ok"},
    ],
    "attempts": None,
}
_LIFECYCLE = {
    "kind": "lifecycle",
    "id": "17",
    "occurred_at": "2026-11-23T08:00:00+00:00",
    "key_id": "x3Fp0aQm81Zz",
    "action": "api_key.create",
    "actor": "key:a8Kq2LmN04Yv",
    "before": None,
    "after": {"name": "billing bot", "owner": "billing", "scopes": ["platform:chat"]},
    "reason": None,
    "request_id": REQUEST_ID,
    "trace_id": _TRACE_ID,
    "client_address": "192.0.2.7",
}


class AuditList(BaseModel):
    """A page of entries, newest first."""

    data: list[dict[str, Any]]
    next_cursor: str | None = Field(description="For the next page; null on the last one.")


_page = json_response("Entries, newest first.", AuditList, {"data": [_ACCESS, _LIFECYCLE], "next_cursor": None})
_page["content"]["application/x-ndjson"] = {
    "schema": {"type": "string", "description": "One JSON object a line."},
    "examples": {"lines": {"value": '{"kind":"access","status":200}\n{"kind":"lifecycle","id":"17"}\n'}},
}

READ: dict[str, Any] = {
    "summary": "Read the audit",
    "tags": ["audit"],
    "responses": {200: _page, **error_responses(*GUARDED, errors.ValidationFailed)},
}

_FOUND = {
    "access": {
        name: value
        for name, value in _ACCESS.items()
        if name not in ("kind", "hops", "attempts")
    }
    | {"decision": "allow", "reason": None, "status": 200, "duration_ms": 1254.8},
    "usage": {
        "id": "0198c0a0b0c0d0e0f000000000000002",
        "occurred_at": "2026-11-23T08:00:00.402000+00:00",
        "key_id": "x3Fp0aQm81Zz",
        "owner": "billing",
        "route": "/v1/platform/chat",
        "provider": "azure-eu",
        "model": "gpt-4o-mini",
        "upstream_model": "gpt-4o-mini",
        "stream": False,
        "prompt_tokens": 12,
        "completion_tokens": 5,
        "cached_tokens": 0,
        "estimated": False,
        "provider_usage": {"prompt_tokens": 12, "completion_tokens": 5},
        "cost_usd": "0.000005",
        "duration_ms": 1250.2,
        "first_token_ms": None,
        "attempts": 2,
        "outcome": "ok",
        "request_id": REQUEST_ID,
        "trace_id": _TRACE_ID,
        "upstream_request_id": "0f0b4a12-9a3f-4a53-9f1c-3a5c4d5e6f70",
        "session": "7d1c2f0e-3a5b-4c6d-8e9f-0a1b2c3d4e5f",
        "requested_model": None,
    },
    "hops": [
        {"name": "limits", "start_ms": 0.14, "duration_ms": 0.611, "outcome": "ok"},
        {"name": "fallback", "start_ms": 402.1, "duration_ms": 0.0, "outcome": "provider_error"},
    ],
    "attempts": [
        {
            "provider": "openai",
            "upstream_model": "gpt-4o-mini",
            "start_ms": 1.2,
            "duration_ms": 400.9,
            "outcome": "provider_error",
            "status": 500,
            "upstream_request_id": "req_8d1f0e5b",
            "sent": True,
            "message": "The server had an error while processing your request.",
        },
        {
            "provider": "azure-eu",
            "upstream_model": "gpt-4o-mini",
            "start_ms": 402.2,
            "duration_ms": 851.7,
            "outcome": "ok",
            "status": 200,
            "upstream_request_id": "0f0b4a12-9a3f-4a53-9f1c-3a5c4d5e6f70",
            "sent": True,
            "message": None,
        },
    ],
    "stored": True,
}  # fmt: skip


class Hop(BaseModel):
    """A step inside the gateway that failed or took 0.1 ms or more."""

    name: str = Field(description="auth, limits, receive, parse, idempotency, secret, queue, retry_wait, fallback …")
    start_ms: float = Field(description="From the request's start.")
    duration_ms: float
    outcome: str = Field(description="`ok`, or an error code.")


class Attempt(BaseModel):
    """One attempt at a provider, or one that was not sent."""

    provider: str
    upstream_model: str
    start_ms: float | None
    duration_ms: float | None
    outcome: str = Field(description="`ok`, an error code, `client_closed`, or the reason why it was not sent.")
    status: int | None = Field(description="The provider's HTTP status; null if no response arrived.")
    upstream_request_id: str | None = Field(description="The provider's id, which its support needs.")
    sent: bool | None = Field(description="False if the gateway did not send it, for example with an open breaker.")
    message: str | None = Field(description="The provider's message about the failure, cut.")


class Found(BaseModel):
    """One request."""

    access: dict[str, Any] | None = Field(description="The access decision, as in the audit; null if none is stored.")
    usage: dict[str, Any] | None = Field(description="The usage record; null if no provider was called.")
    hops: list[Hop]
    attempts: list[Attempt]
    stored: bool


class FoundList(BaseModel):
    """The requests with the id, newest first."""

    data: list[Found]


FIND: dict[str, Any] = {
    "summary": "Find a request by its id",
    "tags": ["audit"],
    "responses": {
        200: json_response("The requests with this id, newest first.", FoundList, {"data": [_FOUND]}),
        **error_responses(*GUARDED, errors.NotFound, errors.ValidationFailed),
    },
}
