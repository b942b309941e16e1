"""Requests of real clients over every wire format, as JSON and as a stream (kinds 20 to 28). The simulator refuses what
Anthropic refuses, so a request that succeeds was translated well."""

import json
from typing import Any

import orjson
import pytest

from apps.provider_simulator.model.simulated_model import EXACT_ARGUMENTS
from apps.provider_simulator.server import ProviderSimulator
from platform_app.errors import ProviderRejectedRequest
from platform_app.llm.errors import UnsupportedByProvider
from platform_app.llm.interfaces import ModelAdapter
from platform_app.llm.responses import ChatChunk
from tests.support.providers.wires import call, collect, complete, text_of

BOTH_STREAM = pytest.mark.parametrize("streams", [False, True], ids=["json", "stream"])
HI: dict[str, Any] = {"role": "user", "content": "hi"}
HO = {"role": "assistant", "content": "ho"}
CLOCK = {"type": "function", "function": {"name": "clock"}}
MARK = {"type": "ephemeral"}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def called(*calls: tuple[str, str, str], **message: Any) -> dict[str, Any]:
    """An assistant's message that calls `clock`: ids, names, arguments."""
    made = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for call_id, name, arguments in calls
    ]
    return {"role": "assistant", "content": None, "tool_calls": made, **message}


def result(call_id: str, content: Any = "noon") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def parts(*texts: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text} if isinstance(text, str) else text for text in texts]


def image(url: str) -> dict[str, Any]:
    return {"role": "user", "content": parts("see", {"type": "image_url", "image_url": {"url": url}})}


def tool(parameters: Any, **function: Any) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "clock", "parameters": parameters, **function}}]


def schema(**fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object", **fields}}}


ODD_IDS = ("functions.f:0", "", " ", "call|1", "ünï", "x" * 65, "y" * 500, "toolu_01", "call:1\n")
REQUESTS: dict[str, dict[str, Any]] = {
    **{
        f"20: the id {call_id[:12]!r}": {
            "messages": [HI, called((call_id, "clock", "{}")), result(call_id)], "tools": [CLOCK],
        }
        for call_id in ODD_IDS
    },
    "20: parallel odd ids": {
        "messages": [
            HI, called(("f:0", "clock", "{}"), ("f:1", "clock", "{}"), ("f_0", "clock", "{}")),
            result("f:1"), result("f_0"), result("f:0"), HI,
        ],
        "tools": [CLOCK],
    },
    "20: the same id in every turn": {
        "messages": [HI, called(("call_0", "clock", "{}")), result("call_0"),
                     called(("call_0", "clock", "{}")), result("call_0"), HI],
        "tools": [CLOCK],
    },
    "21: a part of white space": {"messages": [{"role": "user", "content": parts("hi", " ", "\n\t", "there")}]},
    "21: a system of white space": {"messages": [{"role": "system", "content": " \n"}, HI]},
    "21: an assistant of white space": {"messages": [HI, {"role": "assistant", "content": " "}, HI]},
    "21: white space beside calls": {
        "messages": [HI, called(("a", "clock", "{}"), content="\n\n"), result("a", " \n")], "tools": [CLOCK],
    },
    "21: a prefill that ends in a space": {"messages": [HI, {"role": "assistant", "content": "The answer is "}]},
    "21: a prefill that ends in lines": {"messages": [HI, {"role": "assistant", "content": parts("a", "{\n\n")}]},
    "21: a prefill of two messages": {
        "messages": [HI, {"role": "assistant", "content": "a "}, {"role": "assistant", "content": "b\t"}],
    },
    "22: parameters without a type": {"tools": tool({"properties": {"zone": {"type": "string"}}})},
    "22: empty parameters": {"tools": tool({})},
    "22: parameters of null": {"tools": tool(None)},
    "22: a type of null": {"tools": tool({"type": None, "properties": {}})},
    "22: a type with null": {"tools": tool({"type": ["object", "null"], "properties": {}})},
    "22: a type in capitals": {"tools": tool({"type": "OBJECT", "properties": {}})},
    "22: a reference at the top": {
        "tools": tool({"$ref": "#/$defs/Zone", "$defs": {"Zone": {"type": "object", "properties": {}}}}),
    },
    "22: one of all at the top": {"tools": tool({"allOf": [{"properties": {"zone": {"type": "string"}}}]})},
    "22: strict, with bounds": {
        "tools": tool({"properties": {"hour": {"type": "integer", "minimum": 0, "maximum": 23}}}, strict=True),
    },
    "23: bounds of numbers": {
        "response_format": schema(properties={"n": {"type": "integer", "minimum": 1, "maximum": 9, "multipleOf": 2}}),
    },
    "23: bounds of texts and lists": {
        "response_format": schema(
            properties={
                "name": {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^a", "format": "uri-reference"},
                "list": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 2, "maxItems": 5,
                         "uniqueItems": True},
            },
            minProperties=1,
        ),
    },
    "23: objects that are not closed": {
        "response_format": schema(
            properties={"inner": {"type": "object", "properties": {"a": {}}, "additionalProperties": True}},
        ),
    },
    "23: oneOf, and definitions": {
        "response_format": schema(
            properties={"either": {"oneOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}},
            **{"$defs": {"A": {"type": "object", "properties": {"x": {"type": "number", "exclusiveMinimum": 0}}}}},
        ),
    },
    "24: effort": {"reasoning_effort": "high"},
    "24: a little effort": {"reasoning_effort": "minimal"},
    "24: no effort": {"reasoning_effort": "none"},
    "27: image/jpg": {"messages": [image("data:image/jpg;base64,/9j/4AAQ")]},
    "27: image/pjpeg": {"messages": [image("data:image/pjpeg;base64,/9j/4AAQ")]},
    "27: a parameter of the media type": {"messages": [image(f"data:image/png;charset=utf-8;base64,{PIXEL}")]},
    "27: capitals": {"messages": [image(f"DATA:IMAGE/PNG;BASE64,{PIXEL}")]},
    "27: a label of another type": {"messages": [image(f"data:image/jpeg;base64,{PIXEL}")]},
    "27: no label": {"messages": [image(f"data:;base64,{PIXEL}")]},
    "27: any bytes": {"messages": [image(f"data:application/octet-stream;base64,{PIXEL}")]},
    "27: line ends": {"messages": [image(f"data:image/png;base64,{PIXEL[:40]}\n{PIXEL[40:]}\r\n")]},
    "27: percent signs": {"messages": [image(f"data:image/png;base64,{PIXEL.replace('=', '%3D')}")]},
    "28: cache_control beside content": {"messages": [{**HI, "cache_control": MARK}]},
    "28: cache_control inside function": {"tools": tool({"type": "object"}, cache_control=MARK)},
    "28: cache_control of a result": {
        "messages": [HI, called(("a", "clock", "{}")), {**result("a"), "cache_control": MARK}], "tools": [CLOCK],
    },
}  # fmt: skip


@BOTH_STREAM
@pytest.mark.parametrize("case", REQUESTS)
async def test_recorded_request_succeeds(adapter: ModelAdapter, case: str, streams: bool) -> None:
    fields = {"messages": [HI], **REQUESTS[case]}
    asked = call("sim-ok@claude-haiku-4-5", streams=streams, **fields)
    if not streams:
        assert (await complete(adapter, asked)).message["content"]
        return
    chunks: list[ChatChunk] = []
    await collect(adapter, asked, chunks)
    assert text_of(chunks)


@BOTH_STREAM
@pytest.mark.parametrize("wire", ["anthropic"], indirect=True)
@pytest.mark.parametrize(
    "model", ["claude-3-haiku-20240307", "claude-3-5-sonnet-latest", "claude-opus-4-1", "claude-next-9"]
)
async def test_default_max_tokens_fits_model_and_thinking(adapter: ModelAdapter, model: str, streams: bool) -> None:
    """Kind 25, and a model whose maximum is below the default."""
    given: tuple[dict[str, Any], ...] = ({}, {"thinking": {"type": "enabled", "budget_tokens": 3000}})
    for fields in given:
        asked = call(f"sim-ok@{model}", streams=streams, **fields)
        if streams:
            await collect(adapter, asked, [])
        else:
            await complete(adapter, asked)


@BOTH_STREAM
async def test_argument_numbers_are_received_unchanged(adapter: ModelAdapter, streams: bool) -> None:
    """Kind 26, from the provider to the client."""
    asked = call("sim-ok", "exact: clock", streams=streams, tools=[CLOCK])
    if streams:
        chunks: list[ChatChunk] = []
        await collect(adapter, asked, chunks)
        made = [
            each["function"].get("arguments") or "" for chunk in chunks for each in chunk.delta.get("tool_calls", ())
        ]
        assert "".join(made) == EXACT_ARGUMENTS
    else:
        [one] = (await complete(adapter, asked)).message["tool_calls"]
        assert one["function"]["arguments"] == EXACT_ARGUMENTS


@pytest.mark.parametrize(
    "arguments", [EXACT_ARGUMENTS, '{"a":1e300,"b":-0.0,"c":18446744073709551616}', ' {"a" : 1.50} ']
)
async def test_argument_numbers_are_sent_unchanged(
    adapter: ModelAdapter, simulator: ProviderSimulator, arguments: str
) -> None:
    """Kind 26, from the client to the provider, in the history of a conversation."""
    messages = [HI, called(("a", "clock", arguments)), result("a")]
    await complete(adapter, call("sim-ok", messages=messages, tools=[CLOCK]))
    body = simulator.requests()[-1].body
    assert body is not None
    assert arguments.strip().encode() in body or json.dumps(arguments.strip())[1:-1].encode() in body


_NO_TOOLS: tuple[dict[str, Any], ...] = ({}, {"tools": []})
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "the assistant first": ("messages.0.role", {"messages": [HO, HI]}),
    "the assistant first, behind the system": (
        "messages.1.role", {"messages": [{"role": "system", "content": "s"}, HO, HI]},
    ),
    "the assistant first, behind nothing": (
        "messages.1.role", {"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "a"}, HI]},
    ),
    "a tool's result first": ("messages.0.tool_call_id", {"messages": [result("a"), HI], "tools": [CLOCK]}),
    **{
        f"tool_choice {choice!r:.20} without tools": ("tool_choice", {"tool_choice": choice, **tools})
        for choice in ("required", "auto", "none", {"type": "function", "function": {"name": "clock"}})
        for tools in _NO_TOOLS
    },
    "tool_choice of another tool": (
        "tool_choice.function.name", {"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "x"}}},
    ),
    **{
        f"thinking {block!r:.60}": (
            place, {"messages": [HI, {"role": "assistant", "content": "a", "thinking_blocks": [block]}, HI]},
        )
        for place, block in (
            ("messages.1.thinking_blocks.0.signature", {"type": "thinking", "thinking": "hm"}),
            ("messages.1.thinking_blocks.0.signature", {"type": "thinking", "thinking": "hm", "signature": ""}),
            ("messages.1.thinking_blocks.0.signature", {"type": "thinking", "thinking": "hm", "signature": None}),
            ("messages.1.thinking_blocks.0", {"type": "redacted_thinking"}),
            ("messages.1.thinking_blocks.0", {"type": "text", "text": "x"}),
            ("messages.1.thinking_blocks.0", "hm"),
        )
    },
    "thinking that is no list": (
        "messages.1.thinking_blocks", {"messages": [HI, {**HO, "thinking_blocks": "x"}, HI]},
    ),
    "a call without a result": (
        "messages.1.tool_calls.0", {"messages": [HI, called(("a", "clock", "{}")), HI], "tools": [CLOCK]},
    ),
    "one result of two": (
        "messages.1.tool_calls.1",
        {"messages": [HI, called(("a", "clock", "{}"), ("b", "clock", "{}")), result("a"),
                      {"role": "assistant", "content": "x"}, HI], "tools": [CLOCK]},
    ),
    "a result of another call": (
        "messages.2.tool_call_id", {"messages": [HI, called(("a", "clock", "{}")), result("b")], "tools": [CLOCK]},
    ),
    "a second result": (
        "messages.3.tool_call_id",
        {"messages": [HI, called(("a", "clock", "{}")), result("a"), result("a")], "tools": [CLOCK]},
    ),
    "a tool without a name": (
        "tools.0.function.name", {"tools": [{"type": "function", "function": {"name": ""}}]},
    ),
    "a call without a name": (
        "messages.1.tool_calls.0.function.name",
        {"messages": [HI, called(("a", "", "{}")), result("a")], "tools": [CLOCK]},
    ),
    "parameters of a text": ("tools.0.function.parameters.type", {"tools": tool({"type": "string"})}),
    "parameters of a choice": ("tools.0.function.parameters.anyOf", {"tools": tool({"anyOf": [{}, {}]})}),
    "parameters that are no schema": ("tools.0.function.parameters", {"tools": tool([])}),
    "a schema elsewhere": (
        "response_format.json_schema.schema.properties.a.$ref",
        {"response_format": schema(properties={"a": {"$ref": "https://example.com/a.json"}})},
    ),
    "an object of any names": (
        "response_format.json_schema.schema.properties.a.additionalProperties",
        {"response_format": schema(properties={"a": {"type": "object", "additionalProperties": {"type": "string"}}})},
    ),
    "less than the thinking": (
        "max_tokens", {"max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 2000}},
    ),
    "only white space at the end": (
        "messages.2.content", {"messages": [HI, HO, {"role": "user", "content": " "}]},
    ),
    "cache_control that is none": ("messages.0.cache_control", {"messages": [{**HI, "cache_control": True}]}),
    "effort on a model that does not think": ("reasoning_effort", {"reasoning_effort": "high"}),
}  # fmt: skip


@BOTH_STREAM
@pytest.mark.parametrize("wire", ["anthropic"], indirect=True)
@pytest.mark.parametrize("case", REFUSED)
async def test_untranslatable_request_sends_nothing(
    adapter: ModelAdapter, simulator: ProviderSimulator, case: str, streams: bool
) -> None:
    """Kind 29 and similar: a request that the provider would refuse is not sent, and the error has the path of the
    field."""
    place, fields = REFUSED[case]
    before = len(simulator.requests())
    with pytest.raises(ProviderRejectedRequest) as caught:
        await adapter.send(call("sim-ok@claude-3-haiku", streams=streams, **{"messages": [HI], **fields}), "sk-x")
    assert isinstance(caught.value, UnsupportedByProvider)
    assert caught.value.param == place
    assert caught.value.details is not None
    assert caught.value.details[0].startswith(f"{place}: ")
    assert len(simulator.requests()) == before


def test_simulator_numbers_exceed_float_precision() -> None:
    """Otherwise the tests above would prove nothing."""
    assert orjson.dumps(orjson.loads(EXACT_ARGUMENTS)).decode() != EXACT_ARGUMENTS
