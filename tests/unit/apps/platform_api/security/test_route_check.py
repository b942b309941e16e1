"""The process does not start with a route without authentication, scope and limit."""

from collections.abc import Callable
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from apps.platform_api.http.model.route import ModelRoute
from apps.platform_api.security.guard import Guard, LimitedBy
from apps.platform_api.security.route_check import PUBLIC, UnguardedRouteError, api_routes, guard_of, require_guards
from platform_app.auth import permissions
from platform_app.auth.caller import Caller

CallerDep = Annotated[Caller, Depends(Guard(permissions.Scope.CHAT))]


async def guarded(caller: CallerDep) -> None:
    """Has a guard."""


async def unguarded() -> None:
    """Has no guard."""


@pytest.fixture
def app() -> FastAPI:
    return FastAPI(docs_url=None, redoc_url=None)


def unguarded_of(app: FastAPI) -> str:
    with pytest.raises(UnguardedRouteError) as caught:
        require_guards(app)
    return str(caught.value)


def test_guarded_and_public_routes_are_accepted(app: FastAPI) -> None:
    app.post("/v1/x")(guarded)
    app.get("/healthz")(unguarded)
    require_guards(app)


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options"])
def test_route_without_guard_is_named(app: FastAPI, method: str) -> None:
    app.post("/v1/good")(guarded)
    getattr(app, method)("/v1/x/{name}")(unguarded)
    message = unguarded_of(app)
    assert f"{method.upper()} /v1/x/{{name}}" in message
    assert "/v1/good" not in message


def test_every_unguarded_route_is_named(app: FastAPI) -> None:
    app.get("/a")(unguarded)
    app.post("/b")(unguarded)
    assert "GET /a, POST /b" in unguarded_of(app)


@pytest.mark.parametrize("include", [True, False])
def test_routes_of_routers_are_checked(app: FastAPI, include: bool) -> None:
    router = APIRouter(prefix="/v1")
    router.post("/x")(unguarded)
    if include:
        app.include_router(router)
    else:
        app.router.routes.extend(router.routes)
    assert "POST /v1/x" in unguarded_of(app)


def test_public_path_is_public_for_its_method_only(app: FastAPI) -> None:
    app.post("/healthz")(unguarded)
    assert "POST /healthz" in unguarded_of(app)


def test_plain_starlette_route_is_refused(app: FastAPI) -> None:
    async def plain(request: Request) -> Response:
        return Response()

    app.router.routes.append(Route("/plain", plain, methods=["POST"]))
    assert "POST /plain" in unguarded_of(app)


async def model_handler(request: Request, caller: Caller) -> Response:
    return Response()


def test_model_route_is_checked_by_its_guard(app: FastAPI) -> None:
    app.router.routes.append(ModelRoute("/v1/good", Guard(permissions.Scope.CHAT), model_handler, {}))
    require_guards(app)
    app.router.routes.append(ModelRoute("/v1/none", Guard(None), model_handler, {}))
    unlimited = Guard(permissions.Scope.CHAT, LimitedBy.NOTHING_CHARGED)
    app.router.routes.append(ModelRoute("/v1/unlimited", unlimited, model_handler, {}))
    assert "POST /v1/none, POST /v1/unlimited;" in unguarded_of(app)


async def _asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """Any ASGI app."""


@pytest.mark.parametrize(
    "mount",
    [
        lambda app: app.mount("/files", _asgi),
        lambda app: app.mount("/files", StaticFiles(directory=".")),
        lambda app: app.mount("/files", FastAPI(docs_url=None, redoc_url=None, openapi_url=None)),
        lambda app: app.router.routes.append(Mount("/files", routes=[Route("/x", unguarded)])),
        lambda app: app.mount("", _asgi, name="files"),
    ],
)
def test_mount_is_refused(app: FastAPI, mount: Callable[[FastAPI], None]) -> None:
    mount(app)
    assert "files" in unguarded_of(app) or "* " in unguarded_of(app)


@pytest.mark.parametrize("fastapi", [True, False])
def test_websocket_is_refused(app: FastAPI, fastapi: bool) -> None:
    async def socket(caller: CallerDep) -> None:
        """A guard cannot read a websocket's request."""

    if fastapi:
        app.websocket("/ws")(socket)
    else:
        app.router.routes.append(WebSocketRoute("/ws", _asgi))
    assert "/ws" in unguarded_of(app)


def test_interactive_docs_are_refused() -> None:
    assert "GET /docs" in unguarded_of(FastAPI())


def test_other_dependency_is_not_a_guard(app: FastAPI) -> None:
    async def pretend() -> None:
        """Looks like one."""

    @app.post("/x")
    async def handler(caller: Annotated[None, Depends(pretend)]) -> None:
        """Trusts the wrong one."""

    assert "POST /x" in unguarded_of(app)


def test_nested_guard_is_found(app: FastAPI) -> None:
    guard = Guard(permissions.Scope.CHAT, LimitedBy.GUARD)

    async def team(caller: Annotated[Caller, Depends(guard)]) -> str:
        return caller.owner

    @app.post("/x")
    async def handler(owner: Annotated[str, Depends(team)]) -> None:
        """Asks through another dependency."""

    require_guards(app)
    [route] = api_routes(app)
    assert guard_of(route) is guard


def test_guard_of_a_router_is_found(app: FastAPI) -> None:
    router = APIRouter(dependencies=[Depends(Guard(permissions.Scope.CHAT))])
    router.post("/x")(unguarded)
    app.include_router(router)
    require_guards(app)


def test_public_routes_only_read() -> None:
    assert {method for method, _ in PUBLIC} == {"GET"}
    assert {path for _, path in PUBLIC} == {"/healthz", "/livez", "/readyz", "/v1/meta", "/openapi.json"}


def test_guard_limits_by_default() -> None:
    """Without a word, the guard itself does: forgetting cannot leave a route without a limit."""
    assert Guard(permissions.Scope.CHAT).limited_by is LimitedBy.GUARD
