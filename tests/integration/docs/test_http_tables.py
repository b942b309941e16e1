"""The tables of the HTTP reference, compared with the routes, schemas and errors of the code."""

import re
from collections.abc import Iterator

from apps.platform_api.chat.schemas import ChatRequestBody, ChatResponse
from apps.platform_api.keys.schemas import CreateKeyBody, KeyView, UpdateKeyBody
from apps.platform_api.main import create_app
from apps.platform_api.messages.errors import anthropic_status, error_type
from apps.platform_api.security.route_check import PUBLIC, api_routes, guard_of
from apps.platform_api.usage.openapi import UsageGroup
from platform_app.auth.permissions import GRANTS
from platform_app.config import load_settings
from platform_app.errors import InvalidApiKey, MissingCredentials, PlatformError
from tests.support.documents.pages import DOCS, names_in, page_with_parts, table

HTTP = page_with_parts("http")
CHAT, ERRORS, KEYS, USAGE = ((DOCS / "http" / f"{name}.md").read_text() for name in ("chat", "errors", "keys", "usage"))
URLS = {"database_url": "postgresql://a:b@localhost/c", "redis_url": "redis://localhost"}


def test_http_page_lists_routes_with_scopes() -> None:
    documented = {
        route: scope.strip("`")
        for routes, scope, _ in table(HTTP, "| Route | Scope | What |")
        for route in re.findall(r"`([A-Z]+ /\S*)`", routes)
    }
    app = create_app(load_settings(**URLS))
    served = {f"{method} {path}": "none" for method, path in PUBLIC}
    for route in api_routes(app):
        guard = guard_of(route)
        for method in route.methods or ():
            served[f"{method} {route.path_format}"] = str(guard.scope or "any key") if guard else "none"
    assert documented == served


def _errors(base: type[PlatformError]) -> Iterator[type[PlatformError]]:
    """Yield every error below this one that has its own code."""
    for kind in base.__subclasses__():
        yield from _errors(kind)
        if "code" in vars(kind):
            yield kind


def test_errors_page_lists_every_code_with_its_retry() -> None:
    """Each code of the error tree is there once, with its status, and whether a client may retry."""
    rows = table(ERRORS, "| Status | Code | When | Retry | What to do |")
    documented = [(status, code.strip("`"), retry) for status, code, _, retry, _ in rows]
    expected = {(str(kind.status), kind.code, "yes" if kind.should_retry else "no") for kind in _errors(PlatformError)}
    assert len(documented) == len(set(documented))
    assert set(documented) == expected


def test_errors_page_lists_anthropics_type_of_every_code() -> None:
    """The status is the code's own, or the one of the type's row."""
    rows = table(ERRORS, "| Type | Status | Codes |")
    documented = [(type_.strip("`"), status, code) for type_, status, codes in rows for code in names_in(codes)]
    expected = []
    for kind in set(_errors(PlatformError)):
        error = kind() if kind in (MissingCredentials, InvalidApiKey) else kind("platform:chat")
        expected.append((error_type(error), str(anthropic_status(error)), kind.code))
    own = {type_ for type_, status, _ in documented if status == "as above"}
    assert sorted(documented) == sorted(
        (type_, "as above" if type_ in own else status, code) for type_, status, code in expected
    )


def test_chat_page_lists_every_field() -> None:
    requested = [row[0].strip("`") for row in table(CHAT, "| Field | Type | Meaning |")]
    assert requested == list(ChatRequestBody.model_fields)
    returned = [name for row in table(CHAT, "| Field | Meaning |") for name in names_in(row[0])]
    assert returned == list(ChatResponse.model_fields)


def test_keys_page_lists_every_field() -> None:
    rows = table(KEYS, "| Field of a key | Yours to set | Meaning |")
    assert [name for row in rows for name in names_in(row[0])] == list(KeyView.model_fields)
    assert {row[0].strip("`") for row in rows if row[1] == "yes"} == set(CreateKeyBody.model_fields)
    assert CreateKeyBody.model_fields.keys() == UpdateKeyBody.model_fields.keys()


def test_usage_page_lists_fields_and_parameters() -> None:
    fields = [name for row in table(USAGE, "| Field of a sum | Meaning |") for name in names_in(row[0])]
    assert set(fields) == UsageGroup.model_fields.keys()
    parameters = [name for row in table(USAGE, "| Parameter | Meaning |") for name in names_in(row[0])]
    document = create_app(load_settings(**URLS)).openapi()
    declared = document["paths"]["/v1/platform/usage"]["get"]["parameters"]
    assert sorted(parameters) == sorted(each["name"] for each in declared)


def test_http_pages_name_every_scope() -> None:
    assert set(re.findall(r"`(platform:[a-z_:*]+)`", HTTP)) == set(GRANTS)
