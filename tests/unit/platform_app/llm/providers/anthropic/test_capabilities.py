"""What each model supports, by the names that providers use, and by the config file (kinds 24 and 25)."""

from typing import Any

import orjson
import pytest

from platform_app.config import CapabilitiesConfig
from platform_app.errors import ProviderRejectedRequest
from platform_app.llm.providers.anthropic.capabilities import (
    EFFORTS,
    ModelCapabilities,
    capabilities_of,
    known_capabilities,
)
from platform_app.llm.providers.anthropic.chat.request import messages_request

USER = {"role": "user", "content": "hi"}
BUDGET = ModelCapabilities((), thinking_budget=True)


@pytest.mark.parametrize(
    ("names", "efforts", "thinks", "structured", "most"),
    [
        (("claude-2.1", "claude-instant-1.2"), (), False, False, 4096),
        (("claude-3-haiku-20240307", "anthropic.claude-3-opus-20240229-v1:0"), (), False, False, 4096),
        (("claude-3-5-sonnet-latest", "claude-3.5-haiku"), (), False, False, 8192),
        (("claude-3-7-sonnet-20250219",), (), True, False, 64_000),
        (
            ("claude-opus-4-20250514", "claude-opus-4-0", "claude-4-opus-20250514", "claude-opus-4"),
            (),
            True,
            False,
            32_000,
        ),
        (("claude-sonnet-4-20250514", "claude-sonnet-4@20250514", "claude-sonnet-4-0"), (), True, False, 64_000),
        (("claude-opus-4-1-20250805", "us.anthropic.claude-opus-4-1-20250805-v1:0"), (), True, True, 32_000),
        (
            ("claude-sonnet-4-5", "claude-haiku-4-5-20251001", "claude-haiku-4.5", "Claude-Sonnet-4-5"),
            (),
            True,
            True,
            64_000,
        ),
        (("claude-opus-4-5", "claude-opus-4-5-20251101"), ("low", "medium", "high"), False, True, 64_000),
        (("claude-opus-4-6", "claude-sonnet-4-6"), ("low", "medium", "high", "max"), False, True, None),
        (
            ("claude-opus-4-7", "claude-opus-5", "claude-sonnet-5-5", "claude-opus-4-10", "x"),
            EFFORTS,
            False,
            True,
            None,
        ),
    ],
)
def test_capabilities_follow_model_name(
    names: tuple[str, ...], efforts: tuple[str, ...], thinks: bool, structured: bool, most: int | None
) -> None:
    for name in names:
        assert known_capabilities(name) == ModelCapabilities(efforts, thinks, structured, most), name


def test_config_overrides_named_capabilities() -> None:
    assert capabilities_of("claude-haiku-4-5", None) == known_capabilities("claude-haiku-4-5")
    override = CapabilitiesConfig(efforts=("high", "low"), max_output_tokens=9)
    assert capabilities_of("claude-haiku-4-5", override) == ModelCapabilities(("low", "high"), True, True, 9)
    assert capabilities_of("new", CapabilitiesConfig(efforts=(), thinking_budget=True)) == BUDGET
    assert not capabilities_of("new", CapabilitiesConfig(structured_outputs=False)).structured_outputs


def made(takes: ModelCapabilities, **body: Any) -> dict[str, Any]:
    request = messages_request("m", {"messages": [USER], **body}, stream=False, capabilities=takes)
    sent: dict[str, Any] = orjson.loads(orjson.dumps(request))
    return sent


@pytest.mark.parametrize(
    ("given", "efforts", "sent"),
    [
        ("low", EFFORTS, "low"),
        ("minimal", EFFORTS, "low"),
        ("xhigh", ("low", "medium", "high", "max"), "high"),
        ("max", ("low", "medium", "high"), "high"),
        ("low", ("medium", "high"), "medium"),
    ],
)
def test_effort_becomes_nearest_level(given: str, efforts: tuple[str, ...], sent: str) -> None:
    assert made(ModelCapabilities(efforts), reasoning_effort=given)["output_config"] == {"effort": sent}


@pytest.mark.parametrize(
    ("given", "fields", "budget"),
    [
        ("minimal", {}, None),
        ("low", {}, None),
        ("medium", {}, 4096),
        ("high", {}, 16_384),
        ("max", {}, 32_000),
        ("high", {"max_tokens": 10_000}, 5000),
        ("medium", {"max_completion_tokens": 2048}, 1024),
        ("medium", {"max_tokens": 100}, None),
        ("medium", {"temperature": 0.5}, None),
        ("medium", {"temperature": 1}, 4096),
        ("medium", {"top_k": 3}, None),
        ("medium", {"messages": [USER, {"role": "assistant", "content": "The"}]}, None),
    ],
)
def test_effort_becomes_budget_without_levels(given: str, fields: dict[str, Any], budget: int | None) -> None:
    """Thinking is added only where Anthropic allows it with the rest of the request, and within the client's limit."""
    request = made(BUDGET, reasoning_effort=given, **fields)
    assert "output_config" not in request
    assert request.get("thinking", {}).get("budget_tokens") == budget
    assert budget is None or request["max_tokens"] > budget


def test_effort_is_skipped_after_results_without_thinking() -> None:
    """Anthropic refuses thinking after calls whose thinking was not sent back."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    thinking = [{"type": "thinking", "thinking": "hm", "signature": "s"}]
    result = {"role": "tool", "tool_call_id": "a", "content": "x"}
    tools = [{"type": "function", "function": {"name": "f"}}]
    without = made(BUDGET, messages=[USER, asked, result], tools=tools, reasoning_effort="medium")
    assert "thinking" not in without
    signed = [USER, {**asked, "thinking_blocks": thinking}, result]
    assert made(BUDGET, messages=signed, tools=tools, reasoning_effort="medium")["thinking"]["budget_tokens"] == 4096
    forced = made(BUDGET, tools=tools, tool_choice="required", reasoning_effort="medium")
    assert "thinking" not in forced


def test_effort_none_sends_nothing_without_thinking() -> None:
    assert "thinking" not in made(ModelCapabilities(()), reasoning_effort="none")
    assert made(BUDGET, reasoning_effort="none")["thinking"] == {"type": "disabled"}


def test_strict_is_removed_without_enforced_schemas() -> None:
    """Clients' helpers always send it."""
    tools = [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object"}}}]
    assert "strict" not in made(ModelCapabilities(structured_outputs=False), tools=tools)["tools"][0]
    assert made(ModelCapabilities(), tools=tools)["tools"][0]["strict"]


@pytest.mark.parametrize(
    ("takes", "fields", "limit"),
    [
        (ModelCapabilities(), {}, 8192),
        (ModelCapabilities(max_output_tokens=4096), {}, 4096),
        (ModelCapabilities(), {"thinking": {"type": "enabled", "budget_tokens": 10_000}}, 18_192),
        (
            ModelCapabilities(max_output_tokens=12_000),
            {"thinking": {"type": "enabled", "budget_tokens": 10_000}},
            12_000,
        ),
        (ModelCapabilities(max_output_tokens=4096), {"max_tokens": 9000}, 9000),
    ],
)
def test_default_max_tokens_leaves_room_for_response(
    takes: ModelCapabilities, fields: dict[str, Any], limit: int
) -> None:
    assert made(takes, **fields)["max_tokens"] == limit


@pytest.mark.parametrize(
    ("takes", "fields", "param"),
    [
        (
            ModelCapabilities(max_output_tokens=4096), {"thinking": {"type": "enabled", "budget_tokens": 4096}},
            "thinking.budget_tokens",
        ),
        (BUDGET, {"max_tokens": 1024, "thinking": {"type": "enabled", "budget_tokens": 1024}}, "max_tokens"),
        (ModelCapabilities(()), {"reasoning_effort": "medium"}, "reasoning_effort"),
        (BUDGET, {"reasoning_effort": "huge"}, "reasoning_effort"),
        (
            ModelCapabilities(structured_outputs=False),
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}},
            "response_format",
        ),
    ],
)  # fmt: skip
def test_unsupported_field_is_refused_by_name(takes: ModelCapabilities, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ProviderRejectedRequest) as caught:
        made(takes, **fields)
    assert caught.value.param == param
