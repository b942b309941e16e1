"""Model routes: dispatched by exact path, guarded before the handler, documented as FastAPI routes are."""

from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from apps.platform_api.http.model.route import ModelRoute, ModelRoutes
from apps.platform_api.main import MODEL_ROUTES
from apps.platform_api.openapi.install import install_openapi
from apps.platform_api.security.guard import Guard
from platform_app.auth.caller import Caller
from platform_app.auth.permissions import Scope as Permission

CALLER = Caller("k" * 12, "batch", "team-a", "test", frozenset({"platform:chat"}))


class FakeGuard(Guard):
    """Returns CALLER, or raises `error`."""

    def __init__(self, steps: list[str], error: Exception | None = None) -> None:
        super().__init__(Permission.CHAT)
        self._steps, self._error = steps, error

    async def __call__(self, request: Request) -> Caller:
        self._steps.append("guard")
        if self._error is not None:
            raise self._error
        return CALLER


def routes(steps: list[str], error: Exception | None = None, **options: Any) -> ModelRoutes:
    async def handler(request: Request, caller: Caller) -> Response:
        """Say who calls."""
        steps.append("handler")
        return PlainTextResponse(f"{caller.key_id} {request.url.path} {request.scope['route'].path}")

    return ModelRoutes(elsewhere, [ModelRoute("/v1/model", FakeGuard(steps, error), handler, {})], **options)


async def elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(f"elsewhere {scope['path']}")(scope, receive, send)


async def call(serve: Any, method: str, path: str, **scope: Any) -> str:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    whole = {
        "type": "http", "method": method, "path": path, "headers": [], "query_string": b"",
        "server": ("gateway", 80), "scheme": "http", **scope,
    }  # fmt: skip
    await serve(whole, receive, send)
    return b"".join(message.get("body", b"") for message in sent).decode()


async def test_guard_runs_before_handler() -> None:
    steps: list[str] = []
    assert await call(routes(steps), "POST", "/v1/model") == f"{'k' * 12} /v1/model /v1/model"
    assert steps == ["guard", "handler"]


async def test_refused_caller_does_not_reach_handler() -> None:
    steps: list[str] = []
    with pytest.raises(PermissionError):
        await call(routes(steps, PermissionError()), "POST", "/v1/model")
    assert steps == ["guard"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/model"), ("POST", "/v1/model/"), ("POST", "/other")])
async def test_other_requests_reach_the_application(method: str, path: str) -> None:
    assert await call(routes([]), method, path) == f"elsewhere {path}"


@pytest.mark.parametrize(
    ("method", "path", "result"), [("POST", "/alias", "k" * 12), ("GET", "/alias", "elsewhere"), ("POST", "/x", "else")]
)
async def test_alias_is_served_as_its_route(method: str, path: str, result: str) -> None:
    def rewrite(scope: Scope) -> bool:
        if scope["path"] != "/alias":
            return False
        scope["path"] = "/v1/model"
        return True

    assert (await call(routes([], rewrite=rewrite), method, path)).startswith(result)


async def test_other_scopes_reach_the_application() -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def unused(*_: Any) -> Any:
        raise AssertionError

    await ModelRoutes(app, [])({"type": "lifespan"}, unused, unused)
    assert seen == ["lifespan"]


async def test_router_serves_a_model_route_too() -> None:
    [route] = routes([])._routes.values()
    app = FastAPI(docs_url=None, redoc_url=None)
    app.router.routes.append(route)
    assert (await call(app.router, "POST", "/v1/model")).startswith("k" * 12)


async def test_wrong_method_is_noted_under_its_route() -> None:
    """The metrics' label of a 405 is the route's template."""
    [route] = routes([])._routes.values()
    app = FastAPI(docs_url=None, redoc_url=None)
    app.router.routes.append(route)
    scope: dict[str, Any] = {"app": app}

    async def noting(inner: Scope, receive: Receive, send: Send) -> None:
        try:
            await app.router(inner, receive, send)
        finally:
            scope["route"] = inner.get("route")

    with pytest.raises(HTTPException) as caught:
        await call(noting, "GET", "/v1/model", app=app)
    assert caught.value.status_code == 405
    assert scope["route"] is route


def test_document_describes_a_model_route() -> None:
    app = FastAPI(docs_url=None, redoc_url=None)
    app.router.routes.extend((*MODEL_ROUTES, *routes([])._routes.values()))
    install_openapi(app)
    operation = app.openapi()["paths"]["/v1/model"]["post"]
    assert operation["description"] == f"Say who calls.\n\nScope: `{Permission.CHAT}`"
    assert "parameters" not in operation


def test_every_model_route_is_dispatched_directly() -> None:
    assert sorted(route.path for route in MODEL_ROUTES) == [
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/platform/chat",
        "/v1/responses",
    ]
