"""The audit route in the OpenAPI document."""

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
