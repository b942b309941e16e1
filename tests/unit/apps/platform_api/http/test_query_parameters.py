"""11c: a query parameter that a route does not have is refused by its name, on every route."""

from typing import Any

import pytest
from fastapi.routing import APIRoute

from apps.platform_api.http.model.route import ModelRoute
from apps.platform_api.http.query_parameters import MAX_PARAMETERS, refuse_unknown_parameters
from apps.platform_api.main import create_app
from apps.platform_api.security.route_check import api_routes
from platform_app.config import load_settings
from platform_app.errors import ValidationFailed

APP = create_app(load_settings(database_url="postgresql://a:b@localhost/c", redis_url="redis://localhost"))
ROUTES = {(method, route.path_format): route for route in api_routes(APP) for method in route.methods or ()}


def details(route: APIRoute | ModelRoute, query: bytes, *, openai: bool = False) -> list[str]:
    scope: dict[str, Any] = {"route": route, "query_string": query}
    with pytest.raises(ValidationFailed) as caught:
        refuse_unknown_parameters(scope, openai=openai)
    assert caught.value.details is not None
    assert caught.value.param == caught.value.details[0].partition(": ")[0]
    return caught.value.details


def passes(route: APIRoute | ModelRoute, query: bytes, *, openai: bool = False) -> None:
    refuse_unknown_parameters({"route": route, "query_string": query}, openai=openai)


AUDIT = ROUTES["GET", "/v1/platform/audit"]
USAGE = ROUTES["GET", "/v1/platform/usage"]
CHAT = ROUTES["POST", "/v1/chat/completions"]


@pytest.mark.parametrize("route", ROUTES.values(), ids=lambda route: f"{sorted(route.methods)[0]} {route.path_format}")
def test_unknown_parameter_is_refused_on_every_route(route: APIRoute | ModelRoute) -> None:
    [detail] = details(route, b"key_di=x")
    assert detail.startswith("key_di: is not ")


@pytest.mark.parametrize(
    ("route", "query", "told"),
    [
        (AUDIT, b"key_di=x", "Did you mean key_id?"),
        (USAGE, b"owners=x", "Did you mean owner?"),
        (USAGE, b"KEY_ID=x", "Did you mean key_id?"),
        (USAGE, b"key%20id=x", "Did you mean key_id?"),
        (USAGE, b"groupby=day", "Did you mean group_by?"),
        (USAGE, b"group_by[]=day", "Did you mean group_by?"),
        (USAGE, b"since=2026-01-01&untill=2026-02-01", "Did you mean until?"),
        (USAGE, b"=x", "is not a parameter"),
        (USAGE, b"xyz", "which has group_by, since, until"),
        (CHAT, b"model=gpt-5", "this route has no query parameters"),
    ],
)
def test_misspelt_parameter_gets_a_suggestion(route: APIRoute | ModelRoute, query: bytes, told: str) -> None:
    [detail] = details(route, query)
    assert told in detail


def test_repeated_parameter_is_refused() -> None:
    """FastAPI takes the last one: a second key_id would widen or move what was asked for."""
    assert details(USAGE, b"key_id=a&key_id=b") == ["key_id: is repeated; send it once"]
    passes(USAGE, b"group_by=day&group_by=model")


def test_every_problem_is_named_up_to_a_bound() -> None:
    assert len(details(USAGE, b"a=1&b=2&a=3&key_id=x")) == 2
    assert len(details(USAGE, b"&".join(b"n%d" % number for number in range(60)))) == 20
    assert details(USAGE, b"&" * MAX_PARAMETERS) == [f"query: at most {MAX_PARAMETERS} parameters are taken"]
    assert len(details(USAGE, b"x" * 9000)[0]) < 250


@pytest.mark.parametrize(
    ("route", "query"),
    [
        (CHAT, b"api-version=2024-10-21"),
        (CHAT, b"api-version=preview"),
        (ROUTES["GET", "/v1/models"], b"limit=1000&beta=true"),
        (ROUTES["GET", "/v1/models"], b"client_version=0.100.0"),
    ],
)
def test_parameters_of_official_clients_are_accepted(route: APIRoute | ModelRoute, query: bytes) -> None:
    passes(route, query, openai=True)


def test_api_version_is_accepted_on_openai_routes_only() -> None:
    assert details(USAGE, b"api-version=1")[0].startswith("api-version: is not a parameter")
