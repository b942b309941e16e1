"""Fields of a Responses request that would change what the gateway has decided."""

from typing import Any

import pytest

from platform_app.llm.providers.openai.request_fields import steers
from platform_app.llm.providers.openai_responses.request_fields import KNOWN_FIELDS, extra_fields, offered_tools

_NEUTRAL = {"background": False, "conversation": None, "prompt": None}


def test_fields_of_responses_are_not_extra() -> None:
    assert extra_fields(dict.fromkeys(KNOWN_FIELDS) | _NEUTRAL) == ()


@pytest.mark.parametrize("name", ["maxOutputTokens", "INPUT", "Instructions", "max-tool-calls", "models", "messages"])
def test_other_spelling_or_format_is_refused(name: str) -> None:
    assert extra_fields({"input": "hi", name: 1}) == (name,)
    assert steers(name)


@pytest.mark.parametrize("name", ["top_k", "brand_new", "include_obfuscation"])
def test_unknown_field_passes(name: str) -> None:
    assert extra_fields({name: 1}) == (name,)
    assert not steers(name)


@pytest.mark.parametrize("name", ["reasoning", "text", "include", "instructions", "max_output_tokens"])
def test_chat_may_have_field_of_responses(name: str) -> None:
    """Routers such as OpenRouter accept `reasoning` in a chat."""
    assert not steers(name)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"background": True}, ["background"]),
        ({"conversation": "conv_1"}, ["conversation"]),
        ({"prompt": {"id": "pmpt_1"}}, ["prompt.id"]),
        ({"moderation": {"model": "omni"}}, ["moderation.model"]),
        ({"prompt_cache_options": {"mode": "explicit"}}, []),
        ({"prompt_cache_options": {"comparison_response_id": "r"}}, ["prompt_cache_options.comparison_response_id"]),
        ({"service_tier": "priority"}, ["service_tier"]),
        ({"service_tier": "flex"}, []),
        ({"metadata": {"tags": ["premium"], "a": "b"}}, ["metadata.tags"]),
        ({"tools": [{"type": "function"}, {"type": "custom"}, {"type": "local_shell"}, {"type": "apply_patch"}]}, []),
        ({"tools": [{"type": "computer"}, {"type": "function", "name": "f", "strict": True}]}, []),
        ({"tools": [{}, 5, {"type": 5}, {"name": "f"}]}, ["tools.type"]),
        (
            {"tools": [{"googleSearch": {}}, {"type": None, "web_search": {}}]},
            ["tools.googleSearch", "tools.web_search"],
        ),
        ({"tools": [{"type": "function", "Type": "web_search"}]}, ["tools.Type"]),
        ({"tools": [{"type": "web_search"}, {"type": "mcp"}, {"type": "mcp"}]}, ["tools.web_search", "tools.mcp"]),
        ({"tools": [{"type": "shell"}, {"type": "shell", "environment": {"type": "local"}}]}, []),
        ({"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]}, ["tools.shell"]),
        ({"tools": [{"type": "tool_search", "execution": "client"}]}, []),
        ({"tools": [{"type": "tool_search"}]}, ["tools.tool_search"]),
        ({"tools": [{"type": "namespace", "tools": [{"type": "function"}]}]}, []),
        ({"tools": [{"type": "namespace", "tools": [{"type": "mcp"}]}]}, ["tools.namespace"]),
        ({"input": [{"type": "additional_tools", "tools": [{"type": "mcp"}]}]}, ["tools.mcp"]),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, ["input.item_reference"]),
        ({"input": [{"id": "msg_1"}, {"id": "msg_2"}]}, ["input.item_reference"]),
        ({"input": [{"id": "msg_1", "type": None}]}, ["input.item_reference"]),
        ({"input": [{"id": "msg_1", "type": 5, "status": "completed"}]}, ["input.item_reference"]),
        ({"input": [{"id": "msg_1", "role": None}]}, ["input.item_reference"]),
        ({"input": [{"type": "image_generation_call", "id": "ig_1"}]}, ["input.item_reference"]),
        ({"input": [{"type": "image_generation_call", "id": "ig_1", "result": "aGk="}]}, []),
        ({"input": [{"type": "function_call", "id": "fc_1", "call_id": "a"}, {"id": "msg_1", "role": "user"}]}, []),
        ({"input": [{"role": "user", "content": "hi"}, 5]}, []),
    ],
)
def test_values_with_more_effect_are_extra(body: dict[str, Any], names: list[str]) -> None:
    assert list(extra_fields(body)) == names
    assert all(map(steers, names))


_WEB_SEARCH = {"type": "web_search"}
_OWN = {"type": "function", "name": "f"}


@pytest.mark.parametrize(
    ("body", "offered"),
    [
        ({"tools": [_OWN, _WEB_SEARCH]}, ("tools.web_search",)),
        ({"tools": [_OWN], "input": [{"type": "additional_tools", "tools": [_WEB_SEARCH]}]}, ()),
        ({"tools": [_OWN, _WEB_SEARCH], "input": [{"type": "additional_tools", "tools": [_WEB_SEARCH]}]}, ()),
    ],
)
def test_only_tools_of_request_are_offers(body: dict[str, Any], offered: tuple[str, ...]) -> None:
    """Only these can be left out for a provider that must not get them."""
    assert offered_tools(body, extra_fields(body)) == offered
