"""Generate the OpenAPI document."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from apps.platform_api.chat.schemas import ChatRequestBody
from apps.platform_api.http.model.route import ModelRoute
from apps.platform_api.keys.schemas import CreateKeyBody, RevokeKeyBody, RotateKeyBody, UpdateKeyBody
from apps.platform_api.messages.openapi import CountTokensBody, MessagesBody
from apps.platform_api.openai.openapi import ChatCompletionBody, EmbeddingsBody
from apps.platform_api.openapi.components import REF
from apps.platform_api.responses.openapi import ResponsesBody
from apps.platform_api.security.route_check import api_routes, guard_of

DESCRIPTION = (
    "The guarded gateway in front of LLM providers. Errors are `{error: {code, message, request_id}}`, "
    "and OpenAI's `{error: {message, type, param, code}}` on the routes of its contract, "
    "and Anthropic's `{type, error: {type, message}, request_id}` on /v1/messages. Azure's paths below /openai "
    "are other names of the same routes."
)

_BODIES = (
    ChatRequestBody,
    ChatCompletionBody,
    EmbeddingsBody,
    ResponsesBody,
    MessagesBody,
    CountTokensBody,
    CreateKeyBody,
    UpdateKeyBody,
    RotateKeyBody,
    RevokeKeyBody,
)


def install_openapi(app: FastAPI) -> None:
    """Replace `app.openapi()` by FastAPI's document with the model routes, the bodies that FastAPI does not parse, and
    the scope of each operation."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            routes = [route.documented() if isinstance(route, ModelRoute) else route for route in app.routes]
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=routes)
            _add_schemas(document)
            _add_security(document, api_routes(app))
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
    served = Route(app.openapi_url or "", DocumentEndpoint(app.openapi).respond, include_in_schema=False)
    for index, route in enumerate(app.router.routes):
        if isinstance(route, Route) and route.path == served.path:
            app.router.routes[index] = served


class DocumentEndpoint:
    """Serve the document's bytes. They are made once, in a thread: that takes as long as hundreds of requests, and
    anyone may ask for them."""

    def __init__(self, document: Callable[[], Any]) -> None:
        self._document = document
        self._making: asyncio.Future[bytes] | None = None

    async def respond(self, _: Request) -> Response:
        """Return the document. A first request that ends early does not stop the making for the others."""
        if self._making is None or self._failed(self._making):
            self._making = asyncio.ensure_future(asyncio.to_thread(self._render))
        content = await asyncio.shield(self._making)
        return Response(content, media_type="application/json")

    def _render(self) -> bytes:
        return orjson.dumps(self._document())

    @staticmethod
    def _failed(making: "asyncio.Future[bytes]") -> bool:
        return making.done() and (making.cancelled() or making.exception() is not None)


def _add_schemas(document: dict[str, Any]) -> None:
    _, schemas = models_json_schema([(model, "validation") for model in _BODIES], ref_template=REF)
    document["components"]["schemas"].update(schemas["$defs"])


def _add_security(document: dict[str, Any], routes: Iterable[APIRoute | ModelRoute]) -> None:
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
