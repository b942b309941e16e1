"""Anthropic's official Python client over each wire format."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import MessageParam, TextBlock, ThinkingBlock, ToolUseBlock

from apps.provider_simulator.server import ProviderSimulator
from tests.support.gateway.process import Gateway
from tests.support.providers.client_models import WIRES

HELLO: list[MessageParam] = [{"role": "user", "content": "hello"}]
TOOL: Any = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
VERSION, BETAS = "2023-06-01", "prompt-tools-2025-04-02, other-2026-01-01"


@pytest.fixture
def sdk(clients_gateway: Gateway, client_key: str) -> Iterator[anthropic.Anthropic]:
    """Create a client with our base URL and key, and without retries, so that each error is visible."""
    with anthropic.Anthropic(base_url=clients_gateway.base_url, api_key=client_key, max_retries=0) as client:
        yield client


def last_body(provider: ProviderSimulator) -> dict[str, Any]:
    """Return the body of the last request that the provider got."""
    body = provider.requests()[-1].body
    assert body is not None
    sent: dict[str, Any] = json.loads(body)
    return sent


def test_message_has_text_model_and_usage(sdk: anthropic.Anthropic, wire: str) -> None:
    done = sdk.messages.create(model=f"{wire}-ok", max_tokens=64, messages=HELLO)
    [block] = done.content
    assert isinstance(block, TextBlock)
    assert (block.text, done.stop_reason, done.model) == ("You said: hello", "end_turn", f"{wire}-ok")
    assert (done.usage.input_tokens, done.usage.output_tokens) == (2, 4)
    assert done._request_id


def test_message_stream_rebuilds_same_message(sdk: anthropic.Anthropic, wire: str) -> None:
    whole = sdk.messages.create(model=f"{wire}-ok", max_tokens=64, messages=HELLO)
    with sdk.messages.stream(model=f"{wire}-ok", max_tokens=64, messages=HELLO) as stream:
        texts = list(stream.text_stream)
        streamed = stream.get_final_message()
    assert "".join(texts) == "You said: hello"
    assert len(texts) > 1
    assert streamed.model == f"{wire}-ok"
    left_out = {"id", "usage"}
    assert streamed.to_dict().keys() >= whole.to_dict().keys() - left_out
    assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in whole.content]
    assert (streamed.stop_reason, streamed.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


@pytest.mark.parametrize("streams", [False, True])
def test_tool_session_of_two_turns_ends(
    sdk: anthropic.Anthropic, provider: ProviderSimulator, wire: str, streams: bool
) -> None:
    def ask(messages: list[MessageParam], **more: Any) -> anthropic.types.Message:
        fields: dict[str, Any] = {
            "model": f"{wire}-ok",
            "max_tokens": 64,
            "messages": messages,
            "tools": [TOOL],
            **more,
        }
        if not streams:
            whole: anthropic.types.Message = sdk.messages.create(**fields)
            return whole
        with sdk.messages.stream(**fields) as stream:
            return stream.get_final_message()

    first = ask(HELLO, tool_choice={"type": "tool", "name": "weather"})
    assert first.stop_reason == "tool_use"
    [call] = [block for block in first.content if isinstance(block, ToolUseBlock)]
    assert call.name == "weather"
    assert isinstance(call.input, dict)
    assert call.input.keys() == {"city"}
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "sunny"}]}
    again: list[MessageParam] = [
        *HELLO, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]},
    ]  # fmt: skip
    second = ask(again)
    assert second.stop_reason == "end_turn"
    sent = json.dumps(last_body(provider))
    assert call.id in sent
    assert "sunny" in sent


def test_thinking_survives_a_turn(sdk: anthropic.Anthropic, provider: ProviderSimulator, wire: str) -> None:
    """Anthropic gets its thinking back unchanged; another provider gets its own reasoning, and no signature of ours."""
    thinking: Any = {"type": "enabled", "budget_tokens": 5000}
    with sdk.messages.stream(model=f"{wire}-ok", max_tokens=8000, messages=HELLO, thinking=thinking) as stream:
        first = stream.get_final_message()
    thoughts = [block for block in first.content if isinstance(block, ThinkingBlock)]
    again: list[MessageParam] = [*HELLO, {"role": "assistant", "content": first.content}, *HELLO]
    sdk.messages.create(model=f"{wire}-ok", max_tokens=8000, messages=again, thinking=thinking)
    sent = last_body(provider)
    if wire == "anthropic":
        [thought] = thoughts
        assert thought.signature
        assert sent["messages"][1]["content"][0]["signature"] == thought.signature
        assert sent["thinking"] == thinking
        return
    assert "fbr1." not in json.dumps(sent)
    if wire in ("openai", "azure"):
        assert sent["reasoning_effort"] == "medium"


def test_headers_of_format_reach_anthropic_alone(
    clients_gateway: Gateway, client_key: str, provider: ProviderSimulator, wire: str
) -> None:
    headers = {"anthropic-version": VERSION, "anthropic-beta": BETAS, "x-other": "private", "x-app": "cli"}
    headers["Authorization"] = f"Bearer {client_key}"  # beside the same key as x-api-key, as Claude Code may send both
    url = clients_gateway.base_url
    with anthropic.Anthropic(base_url=url, api_key=client_key, default_headers=headers) as sdk:
        sdk.messages.create(model=f"{wire}-ok", max_tokens=64, messages=HELLO)
    got = {name.lower() for name in provider.requests()[-1].header_names}
    assert not got & {"x-other", "x-app", "x-stainless-lang", "x-stainless-arch"}
    of_format = {"anthropic-version", "anthropic-beta"}
    assert got & of_format == (of_format if wire == "anthropic" else set())


def test_count_tokens_asks_anthropic_or_estimates(
    sdk: anthropic.Anthropic, provider: ProviderSimulator, wire: str
) -> None:
    before = len(provider.requests())
    response = sdk.messages.with_raw_response.count_tokens(model=f"{wire}-ok", messages=HELLO, system="Be brief.")
    called = provider.requests()[before:]
    count = response.parse().input_tokens
    assert count > 0
    if wire == "anthropic":
        assert [request.path for request in called] == ["/anthropic/v1/messages/count_tokens"]
        assert (count, response.headers["x-platform-token-count"]) == (5, "provider")
    else:
        assert called == []
        assert response.headers["x-platform-token-count"] == "estimate"


def test_models_list_has_anthropics_shape(sdk: anthropic.Anthropic) -> None:
    listed = [model.id for model in sdk.models.list(limit=2)]
    assert {f"{wire}-ok" for wire in WIRES} <= set(listed)
    assert len(listed) == len(set(listed))
    assert sdk.models.retrieve("anthropic-ok").display_name == "anthropic-ok"
    with pytest.raises(anthropic.NotFoundError) as caught:
        sdk.models.retrieve("no-such-model")
    assert (caught.value.type, caught.value.error_code) == ("not_found_error", "model_not_found")


@pytest.mark.parametrize(
    ("fault", "kind", "status", "error_type"),
    [
        ("context-length", anthropic.BadRequestError, 400, "invalid_request_error"),
        ("rate-limited", anthropic.OverloadedError, 529, "overloaded_error"),
        ("server-error", anthropic.InternalServerError, 502, "api_error"),
        ("unauthorized", anthropic.InternalServerError, 502, "api_error"),
    ],
)
def test_provider_failure_raises_anthropics_exception(
    sdk: anthropic.Anthropic, wire: str, fault: str, kind: type[anthropic.APIStatusError], status: int, error_type: str
) -> None:
    with pytest.raises(kind) as caught:
        sdk.messages.create(model=f"{wire}-{fault}", max_tokens=64, messages=HELLO)
    assert (caught.value.status_code, caught.value.type) == (status, error_type)
    assert caught.value.request_id


def test_cut_stream_raises_after_its_first_content(sdk: anthropic.Anthropic, wire: str) -> None:
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        sdk.messages.stream(model=f"{wire}-stream-error", max_tokens=64, messages=HELLO) as stream,
    ):
        stream.get_final_message()
    assert caught.value.type in ("api_error", "overloaded_error")


@pytest.mark.parametrize("wrong", ["no-such-key", None])
def test_wrong_key_raises_authentication_error(clients_gateway: Gateway, wrong: str | None) -> None:
    headers: Any = {} if wrong else {"x-api-key": anthropic.omit, "Authorization": anthropic.omit}
    with (
        anthropic.Anthropic(base_url=clients_gateway.base_url, api_key=wrong or "x", max_retries=0) as sdk,
        pytest.raises(anthropic.AuthenticationError) as caught,
    ):
        sdk.messages.create(model="openai-ok", max_tokens=64, messages=HELLO, extra_headers=headers)
    assert caught.value.type == "authentication_error"


def test_two_different_keys_are_refused_clearly(clients_gateway: Gateway, client_key: str) -> None:
    headers = {"x-api-key": "another", "Authorization": f"Bearer {client_key}"}
    body = {"model": "openai-ok", "max_tokens": 64, "messages": HELLO}
    response = httpx.post(f"{clients_gateway.base_url}/v1/messages", headers=headers, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (401, "authentication_error")
    assert "hold different keys" in error["message"]


def test_unknown_path_below_messages_is_not_found(sdk: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        sdk.messages.batches.list()
    assert caught.value.type == "not_found_error"
