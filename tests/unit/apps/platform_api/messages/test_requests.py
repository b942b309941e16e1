"""Requests, contracts and fields of Anthropic's API, as far as the gateway reads them."""

import json
from typing import Any

import pytest

from apps.platform_api.http.contracts import contract_of
from apps.platform_api.messages.requests import format_headers, parse_messages_body
from platform_app.errors import InvalidRequest
from platform_app.llm.providers.anthropic.request_fields import KNOWN_FIELDS, extra_fields
from platform_app.llm.providers.openai.request_fields import steers
from platform_app.llm.requests import Operation
from platform_app.observability.context import ClientContract

BODY: dict[str, Any] = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}


def test_format_headers_pass_byte_for_byte() -> None:
    headers = [
        (b"anthropic-version", b"2023-06-01"),
        (b"anthropic-beta", b"a-2025-01-01,  b "),
        (b"x-api-key", b"k"),
        (b"anthropic-beta", b"c"),
        (b"anthropic-dangerous-direct-browser-access", b"true"),
    ]
    assert format_headers(headers) == {"anthropic-version": "2023-06-01", "anthropic-beta": "a-2025-01-01,  b ,c"}


def test_format_header_with_other_characters_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="anthropic-beta"):
        format_headers([(b"anthropic-beta", b"caf\xe9")])


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages.0"),
        ({"stream": "yes"}, "stream"),
        ({"model": ""}, "model"),
    ],
)
def test_wrong_field_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_messages_body(json.dumps({**BODY, **change}).encode())
    assert caught.value.param == param


def test_counting_needs_no_limit_and_never_streams() -> None:
    body = {"messages": BODY["messages"], "stream": True}
    assert not parse_messages_body(json.dumps(body).encode(), Operation.COUNT_TOKENS).stream


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"metadata": {"user_id": "u"}, "thinking": {}, "context_management": {}, "top_k": 3, "speed": "standard"}, []),
        ({"tools": [{"name": "f"}, {"type": "custom"}, {"type": "bash_20250124"}, {"type": "memory_20250818"}]}, []),
        ({"tools": [{"type": "web_search_20250305"}]}, ["tools.web_search_20250305"]),
        ({"tools": [{"type": "code_execution_20260120"}]}, ["tools.code_execution_20260120"]),
        ({"speed": "fast"}, ["speed.fast"]),
        ({"container": "c", "mcp_servers": [], "inference_geo": "eu"}, ["container", "mcp_servers", "inference_geo"]),
        ({"workspace_id": "w", "userProfileId": "u"}, ["workspace_id", "userProfileId"]),
        ({"service_tier": "priority"}, ["service_tier"]),
        ({"Speed": "fast", "Service_Tier": "priority"}, ["Speed", "Service_Tier"]),
        ({"metadata": {"tags": ["x"], "user_id": "u"}}, ["metadata.tags"]),
        (
            {"tools": [{"googleSearch": {}}, {"type": None, "web_search": {}}]},
            ["tools.googleSearch", "tools.web_search"],
        ),
        ({"lora": "l", "priority": 1, "enable_search": True}, ["lora", "priority", "enable_search"]),
    ],
)
def test_steering_fields_are_refused_by_name(fields: dict[str, Any], refused: list[str]) -> None:
    assert [name for name in extra_fields({**BODY, **fields}) if name != "model" and steers(name)] == refused


def test_fields_of_messages_are_not_extra() -> None:
    assert extra_fields(dict.fromkeys(KNOWN_FIELDS)) == ()


@pytest.mark.parametrize(
    ("path", "has_version", "contract"),
    [
        ("/v1/messages", False, ClientContract.ANTHROPIC),
        ("/v1/messages/batches", False, ClientContract.ANTHROPIC),
        ("/v1/messagesx", False, ClientContract.OPENAI),
        ("/v1/models", False, ClientContract.OPENAI),
        ("/v1/models", True, ClientContract.ANTHROPIC),
        ("/v1/files", True, ClientContract.ANTHROPIC),
        ("/v1/chat/completions", True, ClientContract.OPENAI),
        ("/v1/responses", True, ClientContract.OPENAI),
        ("/v1/platform/chat", True, ClientContract.PLATFORM),
        ("/healthz", True, ClientContract.PLATFORM),
    ],
)
def test_contract_follows_path_and_version(path: str, has_version: bool, contract: ClientContract) -> None:
    assert contract_of(path, has_version) is contract
