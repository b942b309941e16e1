"""Dispatch without FastAPI: the same handlers, the same dependencies in the same order, and a clear no at the start."""

from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, Query, Request
from fastapi.routing import APIRoute
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from apps.platform_api.app import _DIRECT
from apps.platform_api.http.direct_routes import DirectRoutes, NotDirectError

asked: list[str] = []


async def first(request: Request) -> str:
    asked.append("first")
    return request.headers["x-name"]


async def second(request: Request) -> str:
    asked.append("second")
    return "2"


async def handler(
    one: Annotated[str, Depends(first)], two: Annotated[str, Depends(second)], request: Request
) -> Response:
    return PlainTextResponse(f"{one} {two} {request.url.path} {request.scope['route'].path}")


async def elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("elsewhere")(scope, receive, send)


def direct(endpoint: Any, path: str = "/direct") -> DirectRoutes:
    router = APIRouter()
    router.post(path, response_model=None)(endpoint)
    return DirectRoutes(elsewhere, [route for route in router.routes if isinstance(route, APIRoute)])


async def ask(app: DirectRoutes, method: str, path: str) -> str:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "headers": [(b"x-name", b"one")], "query_string": b"",
        "server": ("gateway", 80), "scheme": "http",
    }  # fmt: skip
    await app(scope, receive, send)
    return b"".join(message.get("body", b"") for message in sent).decode()


async def test_a_handler_gets_what_it_asks_for_in_order() -> None:
    asked.clear()
    assert await ask(direct(handler), "POST", "/direct") == "one 2 /direct /direct"
    assert asked == ["first", "second"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/direct"), ("POST", "/direct/"), ("POST", "/other")])
async def test_everything_else_goes_on(method: str, path: str) -> None:
    assert await ask(direct(handler), method, path) == "elsewhere"


async def test_other_scopes_go_on() -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    await DirectRoutes(app, [])({"type": "lifespan"}, nothing, nothing)
    assert seen == ["lifespan"]


async def test_a_failing_dependency_keeps_the_handler_from_running() -> None:
    async def refuses(request: Request) -> str:
        raise PermissionError

    async def never(one: Annotated[str, Depends(refuses)]) -> Response:
        raise AssertionError

    with pytest.raises(PermissionError):
        await ask(direct(never), "POST", "/direct")


async def needs_query(request: Request, number: int) -> int:
    return number


async def nested(one: Annotated[str, Depends(first)]) -> str:
    return one


async def with_query(number: Annotated[int, Query()]) -> Response:
    raise AssertionError


async def with_nested(one: Annotated[str, Depends(nested)]) -> Response:
    raise AssertionError


async def with_dependency_of_query(one: Annotated[int, Depends(needs_query)]) -> Response:
    raise AssertionError


@pytest.mark.parametrize("endpoint", [with_query, with_nested, with_dependency_of_query])
def test_what_only_fastapi_can_do_does_not_start(endpoint: Any) -> None:
    with pytest.raises(NotDirectError, match="/direct"):
        direct(endpoint)


def test_the_routes_that_call_models_are_direct() -> None:
    assert sorted(route.path for route in _DIRECT) == [
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/platform/chat",
    ]
