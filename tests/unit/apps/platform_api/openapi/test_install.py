"""The OpenAPI document is made once, off the event loop, and served as stored bytes."""

import asyncio
import threading
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.routing import Route
from starlette.testclient import TestClient

from apps.platform_api.keys import routes as keys
from apps.platform_api.openapi.install import DocumentEndpoint, install_openapi
from apps.platform_api.system import routes as system


def app_with_document() -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None)
    app.router.routes.extend((*keys.router.routes, *system.router.routes))
    install_openapi(app)
    return app


def test_document_is_served_as_stored() -> None:
    app = app_with_document()
    client = TestClient(app)
    first = client.get("/openapi.json")
    assert (first.status_code, first.headers["content-type"]) == (200, "application/json")
    assert first.json() == app.openapi()
    assert client.head("/openapi.json").status_code == 200
    assert [route.path for route in app.routes if isinstance(route, Route)].count("/openapi.json") == 1


async def test_document_is_rendered_once_and_not_on_the_loop() -> None:
    threads: list[threading.Thread] = []

    def document() -> dict[str, Any]:
        threads.append(threading.current_thread())
        return {"openapi": "3.1.0"}

    endpoint: Any = DocumentEndpoint(document)
    responses = await asyncio.gather(*(endpoint.respond(None) for _ in range(5)))
    responses.append(await endpoint.respond(None))
    assert {response.body for response in responses} == {b'{"openapi":"3.1.0"}'}
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


async def test_failed_document_is_made_again() -> None:
    results = [RuntimeError("a bug"), {"openapi": "3.1.0"}]

    def document() -> Any:
        if isinstance(result := results.pop(0), Exception):
            raise result
        return result

    endpoint: Any = DocumentEndpoint(document)
    with pytest.raises(RuntimeError):
        await endpoint.respond(None)
    assert (await endpoint.respond(None)).status_code == 200
