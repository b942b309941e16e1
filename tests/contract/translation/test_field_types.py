"""Fields with a wrong JSON type are refused by name, in the shape of the client's format, and nothing is sent."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from platform_app.config import ProviderConfig
from platform_app.errors import PlatformError
from platform_app.llm.field_types import READ, TRANSLATED
from platform_app.llm.formats import ApiFormat
from platform_app.llm.http.response import ProviderLimits
from platform_app.llm.providers.anthropic.capabilities import known_capabilities
from platform_app.llm.providers.anthropic.request_fields import KNOWN_FIELDS as MESSAGES_FIELDS
from platform_app.llm.providers.factory import make_adapter
from platform_app.llm.providers.openai.request_fields import RESPONSES_FIELDS
from platform_app.llm.requests import UpstreamCall
from platform_app.llm.translation.field_names.client_fields import TranslatingAdapter
from tests.support.documents.compatibility.features import FEATURES
from tests.support.gateway.chat_routes import CHAT, MESSAGES, RESPONSES, ChatRoute
from tests.support.gateway.in_process.gateway import WIRES, InProcessGateway

WRONG: tuple[Any, ...] = (True, 7, 1.5, "x", [7], [[]], {"x": [7]}, [], {}, "")
FORMATS = {"chat": ApiFormat.CHAT, "responses": ApiFormat.RESPONSES, "messages": ApiFormat.MESSAGES}
NATIVE = {"chat": "openai", "responses": "openai-responses", "messages": "anthropic"}
TOP = [
    (route, name)
    for route, types in ((RESPONSES, TRANSLATED[ApiFormat.RESPONSES]), (MESSAGES, TRANSLATED[ApiFormat.MESSAGES]))
    for name in (*types, "model", "stream")
]


def wrong_for(route: ChatRoute, name: str) -> list[Any]:
    """Return the values whose type the field does not have."""
    if name in ("model", "stream"):
        return [value for value in WRONG if not isinstance(value, {"model": str, "stream": bool}[name])]
    expected = TRANSLATED[FORMATS[route.name]][name]
    inner = expected.of
    return [
        value
        for value in WRONG
        if not expected.allows(value) or (inner and isinstance(value, list) and not all(map(inner.allows, value)))
    ]


def test_every_known_field_has_a_type() -> None:
    assert TRANSLATED[ApiFormat.RESPONSES].keys() == RESPONSES_FIELDS
    own = {"container", "mcp_servers", "inference_geo"}  # refused unless they are allowed
    assert TRANSLATED[ApiFormat.MESSAGES].keys() == MESSAGES_FIELDS | own


@pytest.mark.parametrize(("route", "name"), TOP, ids=[f"{route.name}-{name}" for route, name in TOP])
async def test_wrong_type_of_a_known_field_is_refused_by_name(route: ChatRoute, name: str) -> None:
    gateway = InProcessGateway("openai", allow_fields=["container", "mcp_servers", "inference_geo"])
    for value in wrong_for(route, name):
        reply = await gateway.ask(route.path, {**route.body(model="m"), name: value}, None, route.headers)
        error = reply.json()["error"]
        assert reply.status == 400, (name, value, reply.body)
        assert not gateway.provider.received
        assert name in error["message"], error
        assert error["type"] == "invalid_request_error"
        assert route is MESSAGES or error["param"].split(".")[0].split("[")[0] == name, (value, error)


@pytest.mark.parametrize("route", [CHAT, RESPONSES, MESSAGES], ids=lambda route: route.name)
async def test_read_field_with_a_wrong_type_never_passes(route: ChatRoute) -> None:
    gateway = InProcessGateway(NATIVE[route.name])
    types = READ[FORMATS[route.name]]
    for name, expected in types.items():
        for value in WRONG:
            if expected.allows(value) and not isinstance(value, list):
                continue
            if expected.allows(value) and (expected.of is None or all(map(expected.of.allows, value))):
                continue
            reply = await gateway.ask(route.path, {**route.body(model="m"), name: value}, None, route.headers)
            assert reply.status == 400, (name, value)
            assert not gateway.provider.received
            assert f"{name}" in reply.json()["error"]["message"]


def _mutations(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path of each value inside, and the whole with another value there; also without the member."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        where = (*path, str(key))
        for wrong in (*WRONG, None):
            yield where, _replaced(value, key, wrong)
        if isinstance(value, dict):
            yield where, {name: each for name, each in value.items() if name != key}
        for deeper, changed in _mutations(inner, where):
            yield deeper, _replaced(value, key, changed)


def _replaced(value: Any, key: Any, inner: Any) -> Any:
    if isinstance(value, dict):
        return {**value, key: inner}
    return [inner if index == key else each for index, each in enumerate(value)]


CALL_TURNS: Mapping[str, Mapping[str, Any]] = {
    "responses": {
        "input": [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "fbt1.W10"},
            {"type": "custom_tool_call", "call_id": "c", "name": "sql", "input": "select"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "1"}]},
        ],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]},
        "tools": [
            {"type": "function", "name": "weather", "parameters": {"type": "object"}},
            {"type": "custom", "name": "sql", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
            {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f", "strict": False}]},
            {"type": "function", "function": {"name": "own", "parameters": {"type": "object"}}},
        ],
        "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto", "mode": "standard"},
    },
    "messages": {
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm", "signature": "fbr1.e30"},
                    {"type": "tool_use", "id": "t", "name": "weather", "input": {"city": "Rome"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "is_error": True,
                        "content": [{"type": "image", "source": {"type": "url", "url": "https://a.example.com"}}],
                    },
                    {
                        "type": "document",
                        "title": "A",
                        "context": "B",
                        "source": {"type": "content", "content": [{"type": "text", "text": "C"}]},
                    },
                ],
            },
        ],
        "tools": [{"type": "custom", "name": "weather", "input_schema": {"type": "object"}, "input_examples": [{}]}],
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "thinking": {"type": "enabled", "budget_tokens": 2048},
    },
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("route", [CHAT, RESPONSES, MESSAGES], ids=lambda route: route.name)
def test_wrong_type_inside_a_field_never_breaks_translation(route: ChatRoute, wire: str) -> None:
    """Each value of each feature, replaced by each JSON type: translated, or refused by an error that names a field."""
    version = "2024-10-21" if wire == "azure" else None
    config = ProviderConfig.model_validate(
        {"wire_format": wire, "base_url": "http://provider/v1", "api_version": version}
    )
    unused: Any = None
    adapter = make_adapter(config, unused, ProviderLimits(30.0, 30.0, 1 << 25))
    assert isinstance(adapter, TranslatingAdapter)
    plain = route.body("Hello", max_tokens=4096)
    bodies = [{**plain, **fields} for fields in (*FEATURES[route.name].values(), CALL_TURNS.get(route.name, {}))]
    unnamed: list[Any] = []
    for body in bodies:
        for path, changed in _mutations(body):
            call = UpstreamCall(
                "up", changed, 1.0, capabilities=known_capabilities("claude-sonnet-4-5"), format=FORMATS[route.name]
            )
            try:
                adapter.translate(call)
            except PlatformError as error:
                unnamed += [] if error.param else [(path, changed)]
    assert not unnamed
