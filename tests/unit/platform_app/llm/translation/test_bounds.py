"""No translation builds a product of two parts of a request, or parses a text with too many values."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from platform_app.errors import PlatformError, ProviderRejectedRequest
from platform_app.llm.errors import UnsupportedByProvider, make_error, unsupported
from platform_app.llm.formats import ApiFormat
from platform_app.llm.providers.anthropic.chat.messages import read_messages
from platform_app.llm.providers.anthropic.chat.request import messages_request
from platform_app.llm.providers.anthropic.chat.schemas import output_schema
from platform_app.llm.providers.openai_responses.chat.request import responses_request
from platform_app.llm.requests import UpstreamCall
from platform_app.llm.translation.carried import carry_reasoning, carry_thinking
from platform_app.llm.translation.chat_request import chat_request
from platform_app.llm.translation.field_names import client_fields
from platform_app.llm.translation.field_names.client_fields import name_client_fields
from platform_app.llm.translation.field_names.origins import origin_of, with_origins
from platform_app.llm.translation.responses import tools as responses_tools
from platform_app.llm.translation.responses.request import chat_of_responses

USER = {"role": "user", "content": "x"}
MANY: list[list[Any]] = [[]] * 100_001


def refused(call: Callable[[], object]) -> UnsupportedByProvider:
    with pytest.raises(UnsupportedByProvider) as caught:
        call()
    return caught.value


def peak_of(call: Callable[[], object]) -> int:
    """Return the peak of what Python allocated, whether the call raises or not."""
    tracemalloc.start()
    try:
        call()
    except PlatformError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_long_name_of_namespace_is_refused_early() -> None:
    inner = [{"type": "function", "name": "a"}] * 2000
    body = {"input": "x", "tools": [{"type": "namespace", "name": "N" * 100_000, "tools": inner}]}
    assert refused(lambda: chat_of_responses(body)).param == "tools.0.name"
    assert peak_of(lambda: chat_of_responses(body)) < 1_000_000


@pytest.mark.parametrize(
    ("client", "tool"),
    [
        (ApiFormat.RESPONSES, {"type": "function", "name": "n" * 257}),
        (ApiFormat.RESPONSES, {"type": "custom", "name": "n" * 257}),
        (ApiFormat.MESSAGES, {"name": "n" * 257, "input_schema": {"type": "object"}}),
    ],
)
def test_long_name_of_tool_is_refused(client: ApiFormat, tool: dict[str, Any]) -> None:
    body = {"input": "x", "messages": [USER], "tools": [tool]}
    body.pop("messages" if client is ApiFormat.RESPONSES else "input")
    assert refused(lambda: chat_request(body, client)).param == "tools.0.name"


def test_allowed_tool_is_sent_once() -> None:
    named = {"type": "function", "name": "f"}
    body = {"input": "x", "tools": [named], "tool_choice": {"type": "allowed_tools", "tools": [named] * 1000}}
    assert len(chat_of_responses(body)["tools"]) == 1


def test_added_tools_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    real = responses_tools._name_of

    def count(tool: dict[str, Any]) -> str:
        asked.append(tool)
        return real(tool)

    monkeypatch.setattr(responses_tools, "_name_of", count)
    added = [{"type": "additional_tools", "tools": [{"type": "function", "name": f"a{n % 90}"}]} for n in range(200)]
    made = chat_of_responses({"input": [USER, *added]})
    assert [tool["function"]["name"] for tool in made["tools"]] == [f"a{n}" for n in range(90)]
    assert len(asked) <= 2 * len(added)


def test_path_in_a_schema_is_written_for_errors_alone() -> None:
    schema: dict[str, Any] = {}
    for _ in range(90):
        schema = {"anyOf": [schema]}
    schema = {"properties": {"k" * 200_000: schema}}
    assert peak_of(lambda: output_schema(schema, "here")) < 2_000_000


def test_path_of_a_refused_schema_is_cut() -> None:
    schema = {"properties": {"k" * 5000: {"anyOf": [{}, {"properties": 5}]}}}
    error = refused(lambda: output_schema(schema, "here"))
    assert error.param == f"here.properties.{'k' * 64}.anyOf.1.properties"


def test_field_of_an_error_is_cut() -> None:
    error = unsupported("f" * 5000, "is not available")
    assert (error.param, error.details) == ("f" * 200, [f"{'f' * 200}: is not available"])


def called(arguments: str, count: int = 1) -> list[dict[str, Any]]:
    calls = [{"id": f"c{n}", "function": {"name": "f", "arguments": arguments}} for n in range(count)]
    results = [{"role": "tool", "tool_call_id": f"c{n}", "content": "r"} for n in range(count)]
    return [USER, {"role": "assistant", "tool_calls": calls}, *results]


def test_arguments_with_too_many_values_are_refused() -> None:
    error = refused(lambda: messages_request("claude", {"messages": called(json.dumps({"a": MANY}))}, stream=False))
    assert error.param == "messages.1.tool_calls.0.function.arguments"
    assert "100000" in (error.details or [""])[0]


def test_arguments_of_all_calls_have_one_bound() -> None:
    arguments = json.dumps({"a": MANY[:9_000]})
    error = refused(lambda: messages_request("claude", {"messages": called(arguments, 20)}, stream=False))
    assert error.param == "messages.1.tool_calls.5.function.arguments"
    code = json.dumps({"code": "f(a, [b])\n" * 20_000})
    assert messages_request("claude", {"messages": called(code, 20)}, stream=False)


def test_carried_reasoning_with_too_many_values_is_refused() -> None:
    signature = carry_reasoning({"type": "reasoning", "x": MANY})
    thinking = {"type": "thinking", "thinking": "t", "signature": signature}
    messages = [USER, {"role": "assistant", "content": [thinking, {"type": "text", "text": "x"}]}, USER]
    error = refused(lambda: chat_request({"messages": messages}, ApiFormat.MESSAGES))
    assert error.param == "messages.1.content.0.signature"
    chat = [USER, {"role": "assistant", "content": "x", "thinking_blocks": [thinking]}, USER]
    error = refused(lambda: responses_request("gpt", {"messages": chat}, stream=False))
    assert error.param == "messages.1.thinking_blocks.0.signature"


def test_carried_thinking_with_too_many_values_is_refused() -> None:
    item = {"type": "reasoning", "encrypted_content": carry_thinking([{"type": "thinking", "x": MANY}])}
    assert refused(lambda: chat_of_responses({"input": [USER, item]})).param == "input.1.encrypted_content"


def test_results_stay_before_other_content() -> None:
    """The place of a result is known, and not searched among all results before it."""
    messages = called("{}", 3)
    messages[3:3] = [USER]
    turns = read_messages(messages).turns
    assert [block["type"] for block in turns[-1]["content"]] == ["tool_result"] * 3 + ["text"]
    assert [block.get("tool_use_id") for block in turns[-1]["content"]][:3] == ["c0", "c1", "c2"]


def test_origins_are_as_deep_as_paths_are_read() -> None:
    """A path for each of many values at a great depth would take memory for their number times the depth."""
    deep: Any = [1] * 20_000
    for _ in range(200):
        deep = [deep]
    assert peak_of(lambda: with_origins({"input": "x", "metadata": deep})) < 1_000_000


def test_index_of_thousands_of_digits_has_no_origin() -> None:
    assert origin_of(with_origins({"input": ["a"]}), ["input", "1" * 5000]) == ("input",)


class Adapter:
    """An adapter whose provider speaks chat completions."""

    def translate(self, call: UpstreamCall) -> Any:
        return call.chat_body()


def test_refusal_with_client_names_is_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is copied and translated again only for an error with other names than the client's."""
    copied: list[object] = []
    monkeypatch.setattr(client_fields, "with_origins", copied.append)
    body = {"input": [USER, {"type": "unknown"}]}
    error = refused(lambda: chat_request(body, ApiFormat.RESPONSES))
    name_client_fields(error, UpstreamCall("m", body, 1.0, format=ApiFormat.RESPONSES), Adapter())
    assert (error.param, copied) == ("input[1]", [])


def test_provider_error_without_names_is_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[object] = []
    monkeypatch.setattr(client_fields, "with_origins", copied.append)
    error = make_error(ProviderRejectedRequest, "The request is too strange")
    name_client_fields(error, UpstreamCall("m", {"input": [USER]}, 1.0, format=ApiFormat.RESPONSES), Adapter())
    assert (error.details, copied) == (["The request is too strange"], [])
