"""Compare requests and responses on the wire, with and without the gateway. docs/http.md lists the differences; there
must be no others."""

import json
import re
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.clients.conftest import ALIAS
from tests.conftest import PROVIDER_KEY
from tests.support.documents.pages import page_with_parts
from tests.support.gateway.process import Gateway

DOCUMENTED = page_with_parts("http")
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
UNICODE = "é e\u0301 \U0001f600 \u202e שלום 漢字 \x7f \u2028\ufeff"
USER = {"role": "user", "content": "Hello there, how are you?"}


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "strict": True, "parameters": parameters}}


WEATHER, CLOCK = tool("weather", unit={"enum": ["C", "F"]}, city={"type": "string"}), tool("clock")
SCHEMA = {
    "type": "object",
    "properties": {"zebra": {"type": "string"}, "apple": {"type": "array", "items": {"type": "number"}}},
    "required": ["zebra", "apple"],
    "additionalProperties": False,
}
CALLED = [
    {"role": "user", "content": "call:weather,clock"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "\\u00c5s"}'}},
            {"id": "call_2", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": '{"degrees": 1.0}'},
    {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
]
PARTS = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": PIXEL, "detail": "high"}},
    {"type": "image_url", "image_url": {"url": "https://example.com/a.png?b=c&d=%20"}},
]
CHATS: dict[str, dict[str, Any]] = {
    "plain": {},
    "system and developer": {"messages": [{"role": "developer", "content": "Be brief."}, USER]},
    "tools": {"messages": [{"role": "user", "content": "call:weather"}], "tools": [WEATHER, CLOCK]},
    "parallel tool calls": {
        "messages": [{"role": "user", "content": "call:weather,clock"}], "tools": [WEATHER, CLOCK],
        "parallel_tool_calls": True, "tool_choice": "auto",
    },
    "one call at most": {"tools": [CLOCK], "tool_choice": "required", "parallel_tool_calls": False},
    "a named tool": {"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "clock"}}},
    "tool results": {"messages": CALLED, "tools": [WEATHER, CLOCK]},
    "images": {"messages": [{"role": "user", "content": PARTS}]},
    "audio": {
        "messages": [{"role": "user", "content": [
            {"type": "input_audio", "input_audio": {"data": "UklGRiQAAABXQVZF", "format": "wav"}},
            {"type": "text", "text": "What do you hear?"}]}],
        "modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"},
    },
    "a file": {"messages": [{"role": "user", "content": [
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}]}]},
    "structured output": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "z", "strict": True, "schema": SCHEMA}}
    },
    "a JSON object": {"response_format": {"type": "json_object"}},
    "logprobs": {"logprobs": True, "top_logprobs": 5},
    "reasoning": {"reasoning_effort": "high", "max_completion_tokens": 50, "verbosity": "low"},
    "a refusal": {"messages": [{"role": "user", "content": "refuse: this"}]},
    "n": {"n": 3},
    "a stop": {"stop": ["how", "\n"]},
    "a length": {"max_tokens": 2},
    "unknown fields": {"brand_new": {"z": [], "a": {"": None}, "deep": [[[{}]]]}, "service_tier": "flex", "top_k": 40},
    "unicode": {"messages": [{"role": "user", "name": "Åsa", "content": UNICODE}]},
    "controls": {"messages": [{"role": "user", "content": 'tab\t nl\n "quoted" \\ back / slash \x00 \x1f </script>'}]},
    "numbers": {
        "temperature": 1.0, "top_p": 1e-7, "presence_penalty": -0.0, "logit_bias": {"50256": -100},
        "metadata": {"n": 9007199254740993, "u": 18446744073709551615, "i": -9223372036854775808, "f": 1.5e300},
    },
    "nulls and nothing": {
        "stop": None, "user": "", "tools": [], "metadata": {}, "messages": [{**USER, "name": None}, USER], "n": None,
    },
    "cached": {"prompt_cache_key": "a", "safety_identifier": "b", "store": False, "prediction": None},
}  # fmt: skip
EMBEDDINGS: dict[str, dict[str, Any]] = {
    "a text": {"input": "Hello", "dimensions": 16},
    "texts": {"input": ["é", "", "漢字"], "dimensions": 16, "encoding_format": "base64", "user": "u"},
    "tokens": {"input": [[1, 2, 3], [100257]], "dimensions": 16, "encoding_format": "float"},
}
REFUSED: dict[str, dict[str, Any]] = {
    "a wrong n": {"n": 0},
    "a wrong stop": {"stop": 5},
    "a wrong tool": {"tools": [{"type": "function"}]},
    "no schema": {"response_format": {"type": "json_schema"}},
    "the provider's no": {"model": "sim-bad-request"},
    "too long": {"model": "sim-context-length"},
    "filtered": {"model": "sim-content-filter"},
}
CODES = {"context_length_exceeded": "context_length_exceeded", "content_filter": "content_filtered"}
"""The provider's codes that have a code of ours; all others become provider_rejected_request."""


@dataclass(frozen=True)
class Exchange:
    """One request as the provider got it, and the response as the client got it."""

    received: dict[str, Any]
    status: int
    headers: httpx.Headers
    body: bytes


class Wire:
    """Send the same bytes to the provider directly and through the gateway."""

    def __init__(self, client: httpx.AsyncClient, simulator: ProviderSimulator, served: Gateway, api_key: str) -> None:
        self._client = client
        self._simulator = simulator
        self._ways = {"past": (simulator.base_url, PROVIDER_KEY), "through": (f"{served.base_url}/v1", api_key)}

    async def send(self, way: str, path: str, body: bytes) -> Exchange:
        url, key = self._ways[way]
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        response = await self._client.post(f"{url}/{path}", headers=headers, content=body)
        raw = self._simulator.requests()[-1].body
        assert raw is not None
        return Exchange(exactly(raw), response.status_code, response.headers, response.content)

    async def both(self, path: str, body: dict[str, Any]) -> tuple[Exchange, Exchange]:
        raw = json.dumps(body).encode()
        return await self.send("past", path, raw), await self.send("through", path, raw)


@pytest.fixture
def wire(client: httpx.AsyncClient, simulator: ProviderSimulator, served: Gateway, api_key: str) -> Wire:
    return Wire(client, simulator, served, api_key)


def exactly(raw: bytes) -> dict[str, Any]:
    """Return the members as JSON in their order, so that 1 and 1.0, or false and 0, differ."""
    return {name: json.dumps(value) for name, value in json.loads(raw).items()}


def chat(body: dict[str, Any]) -> dict[str, Any]:
    """With a seed, the simulator's responses depend on nothing else."""
    return {"model": "sim-ok", "messages": [USER], "seed": 7, **body}


@pytest.mark.parametrize("name", CHATS)
async def test_chat_is_identical_with_and_without_gateway(wire: Wire, name: str) -> None:
    past, through = await wire.both("chat/completions", chat(CHATS[name]))
    assert past.status == 200
    assert through.received == past.received
    assert (through.status, through.body) == (past.status, past.body)
    assert through.headers["content-type"] == past.headers["content-type"].partition(";")[0]


@pytest.mark.parametrize("options", [None, {"include_usage": True}, {"include_usage": False}], ids=str)
@pytest.mark.parametrize("name", CHATS)
async def test_stream_is_identical_with_and_without_gateway(
    wire: Wire, name: str, options: dict[str, Any] | None
) -> None:
    body = chat({**CHATS[name], "stream": True})
    if options is not None:
        body["stream_options"] = {**options, "include_obfuscation": False}
    past, through = await wire.both("chat/completions", body)
    assert past.status == 200
    counting = {**json.loads(past.received.get("stream_options", "{}")), "include_usage": True}
    assert through.received == {**past.received, "stream_options": json.dumps(counting)}
    assert (through.status, through.body) == (past.status, past.body)
    assert through.body.endswith(b"\n\ndata: [DONE]\n\n")
    assert through.headers["content-type"] == past.headers["content-type"]


@pytest.mark.parametrize("stream", [False, True])
async def test_alias_changes_only_the_model_name(wire: Wire, stream: bool) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    body = chat({**CHATS["logprobs"], **options})
    past = await wire.send("past", "chat/completions", json.dumps(body).encode())
    through = await wire.send("through", "chat/completions", json.dumps({**body, "model": ALIAS}).encode())
    assert through.received == past.received
    assert b'"model":"sim-ok"' in past.body
    assert through.body == past.body.replace(b'"model":"sim-ok"', b'"model":"house-model"')


@pytest.mark.parametrize("name", EMBEDDINGS)
async def test_embeddings_are_identical_through_gateway(wire: Wire, name: str) -> None:
    past, through = await wire.both("embeddings", {"model": "text-embedding-3-small", **EMBEDDINGS[name]})
    assert past.status == 200
    assert through.received == past.received
    assert (through.status, through.body) == (past.status, past.body)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", REFUSED)
async def test_refusal_differs_only_in_message_and_code(wire: Wire, name: str, stream: bool) -> None:
    past, through = await wire.both("chat/completions", chat({**REFUSED[name], "stream": stream}))
    error, ours = json.loads(past.body)["error"], json.loads(through.body)["error"]
    assert (through.status, ours["type"], ours["param"]) == (past.status, error["type"], error["param"])
    assert error["message"] in ours["message"]
    assert ours["code"] == CODES.get(error["code"], "provider_rejected_request")
    assert ours.keys() == error.keys() | {"request_id"}
    assert ours["request_id"] == through.headers["x-request-id"]


async def test_differing_headers_are_documented(wire: Wire) -> None:
    for stream in (False, True):
        past, through = await wire.both("chat/completions", chat({"stream": stream}))
        of_http = {"date", "server", "content-length", "transfer-encoding", "connection"}
        added = through.headers.keys() - past.headers.keys() - of_http
        missing = past.headers.keys() - through.headers.keys() - of_http
        documented = {name.lower() for name in re.findall(r"`([A-Za-z-]+)`", DOCUMENTED)}
        assert "x-platform-provider" in added
        assert added - documented == set()
        assert missing - documented - {"request-id"} == set()  # Anthropic's name, which the simulator adds


async def test_alias_response_keeps_spelling_of_numbers(wire: Wire) -> None:
    """A vector gets longer and its digits change when it is written again."""
    body = {"model": "house-embedding", "input": "Hello", "dimensions": 64, "encoding_format": "float"}
    through = await wire.send("through", "embeddings", json.dumps(body).encode())
    direct = {**body, "model": "text-embedding-3-small"}
    past = await wire.send("past", "embeddings", json.dumps(direct).encode())
    assert through.body == past.body.replace(b"text-embedding-3-small", b"house-embedding")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model":"sim-ok","messages":[{"role":"user","content":"a"}],"seed":18446744073709551616}', "seed"),
        (b'{"model":"sim-ok","messages":[{"role":"user","content":"\\ud800"}]}', "messages[0].content"),
        (b'{"model":"sim-ok","messages":[{"role":"user"}],"x":' + b"[" * 300 + b"]" * 300 + b"}", None),
    ],
    ids=["a number beyond 64 bits", "half a surrogate pair", "a deep one"],
)
async def test_request_that_would_change_is_refused(
    wire: Wire, simulator: ProviderSimulator, body: bytes, param: str | None
) -> None:
    before = simulator.count("sim-ok")
    through = await wire.send("through", "chat/completions", body)
    assert through.status == 400
    error = json.loads(through.body)["error"]
    assert (error["code"], error["type"], error["param"]) == ("invalid_request", "invalid_request_error", param)
    assert simulator.count("sim-ok") == before
