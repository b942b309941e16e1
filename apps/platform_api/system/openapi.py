"""The system routes in the OpenAPI document."""

from typing import Any

from apps.platform_api.openapi.components import json_response

_RUNTIME = {"service": "flowbiz-ai-platform", "environment": "production", "version": "0.1.0", "build_sha": "3f2a91c"}

HEALTH: dict[str, Any] = {
    "tags": ["system"],
    "responses": {
        200: json_response(
            "The process runs.", None, {"status": "ok", "service": "flowbiz-ai-platform", "version": "0.1.0"}
        )
    },
}
READY: dict[str, Any] = {
    "tags": ["system"],
    "responses": {
        200: json_response(
            "Send traffic here.",
            None,
            {
                "status": "ready",
                "checks": [{"name": "database", "ok": True, "required": False, "detail": "answers"}],
            },
        ),
        503: json_response("Do not: draining, or a required part is down.", None, {"status": "draining", "checks": []}),
    },
}
META: dict[str, Any] = {
    "tags": ["system"],
    "responses": {
        200: json_response(
            "What runs here.",
            None,
            {
                **_RUNTIME,
                "runtime": _RUNTIME,
                "core": {"pinned": "0.2.0", "installed": None, "compatible": None},
            },
        )
    },
}
