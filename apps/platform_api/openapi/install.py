"""Makes the app's OpenAPI document complete."""

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from apps.platform_api.chat.schemas import ChatRequestBody
from apps.platform_api.keys.schemas import CreateKeyBody, RevokeKeyBody, RotateKeyBody, UpdateKeyBody
from apps.platform_api.openai.openapi import ChatCompletionBody, EmbeddingsBody
from apps.platform_api.openapi.components import REF
from apps.platform_api.security.route_check import api_routes, guard_of

DESCRIPTION = (
    "The guarded gateway in front of LLM providers. Errors are `{error: {code, message, request_id}}`, "
    "and OpenAI's `{error: {message, type, param, code}}` on the routes of its contract. Azure's paths below /openai "
    "are other names of the same routes."
)

_BODIES = (
    ChatRequestBody,
    ChatCompletionBody,
    EmbeddingsBody,
    CreateKeyBody,
    UpdateKeyBody,
    RotateKeyBody,
    RevokeKeyBody,
)


def install_openapi(app: FastAPI) -> None:
    """Make `app.openapi()` complete: the bodies that FastAPI does not parse itself, and who may call what."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        if "securitySchemes" not in document["components"]:
            _add_schemas(document)
            _add_security(document, api_routes(app))
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _add_schemas(document: dict[str, Any]) -> None:
    _, schemas = models_json_schema([(model, "validation") for model in _BODIES], ref_template=REF)
    document["components"]["schemas"].update(schemas["$defs"])


def _add_security(document: dict[str, Any], routes: Iterable[APIRoute]) -> None:
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "fbp_…"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "azureApiKey": {"type": "apiKey", "in": "header", "name": "api-key"},
    }
    for route in routes:
        guard = guard_of(route)
        for method in route.methods or ():
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None and guard is not None:
                operation["security"] = [{"bearer": []}, {"apiKey": []}, {"azureApiKey": []}]
                scope = f"Scope: `{guard.scope}`" if guard.scope else "Scope: none, any key"
                operation["description"] = f"{operation.get('description', '')}\n\n{scope}".strip()
