"""Kinds 20 to 29 through the whole gateway, on both chat routes, as JSON and as a stream."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from apps.provider_simulator.model.simulated_model import EXACT_ARGUMENTS
from apps.provider_simulator.server import ProviderSimulator
from tests.clients.conftest import CLAUDE
from tests.support.gateway.process import Gateway

PLATFORM, OPENAI = "/v1/platform/chat", "/v1/chat/completions"
HI: dict[str, Any] = {"role": "user", "content": "hi"}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {}}}
CALL = {"id": "functions.clock:0", "type": "function", "function": {"name": "clock", "arguments": EXACT_ARGUMENTS}}
LOOP = [
    HI,
    {"role": "assistant", "content": " ", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "functions.clock:0", "content": "noon"},
]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,/9j/4AAQ"}}


async def ask(
    client: httpx.AsyncClient, gateway: Gateway, route: str, key: str, streams: bool, body: Mapping[str, Any]
) -> httpx.Response:
    return await client.post(
        gateway.base_url + route,
        headers={"Authorization": f"Bearer {key}"},
        json={"model": CLAUDE, "messages": [HI], "stream": streams, **body},
    )


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("streams", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("route", [PLATFORM, OPENAI])
@pytest.mark.parametrize(
    "body",
    [
        {"messages": LOOP, "tools": [CLOCK]},
        {"messages": [HI, {"role": "assistant", "content": "The answer is "}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": " "}, PICTURE]}]},
        {"tools": [CLOCK]},
        {"response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {
                "type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}},
        }},
    ],
    ids=["20, 26: calls", "21: a prefill", "21, 27: white space and image/jpg", "22: no type", "23: bounds"],
)  # fmt: skip
async def test_recorded_request_succeeds(
    served: Gateway, client: httpx.AsyncClient, api_key: str, route: str, streams: bool, body: dict[str, Any]
) -> None:
    response = await ask(client, served, route, api_key, streams, body)
    assert response.status_code == 200, response.text
    assert '"error"' not in response.text


async def test_long_numbers_keep_their_digits(
    served: Gateway, client: httpx.AsyncClient, api_key: str, simulator: ProviderSimulator
) -> None:
    """Kind 26: the client gets what the model wrote, and sends it back, with all digits."""
    for route in (PLATFORM, OPENAI):
        first = await ask(
            client, served, route, api_key, False, {"messages": [{**HI, "content": "exact: clock"}], "tools": [CLOCK]}
        )
        assert EXACT_ARGUMENTS in list(strings(first.json()))
        await ask(client, served, route, api_key, False, {"messages": LOOP, "tools": [CLOCK]})
        body = simulator.requests()[-1].body
        assert body is not None
        assert b'"input":' + EXACT_ARGUMENTS.encode() in body


@pytest.mark.parametrize("streams", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("route", [PLATFORM, OPENAI])
@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("messages.0.role", {"messages": [{"role": "assistant", "content": "a"}, HI]}),
        ("tool_choice", {"tool_choice": "required"}),
        ("messages.0.tool_call_id", {"messages": LOOP[2:], "tools": [CLOCK]}),
    ],
)
async def test_documented_refusal_sends_nothing(
    served: Gateway, client: httpx.AsyncClient, api_key: str, simulator: ProviderSimulator,
    route: str, streams: bool, field: str, body: dict[str, Any],
) -> None:  # fmt: skip
    """Kind 29."""
    before = len(simulator.requests())
    response = await ask(client, served, route, api_key, streams, body)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "provider_rejected_request")
    assert f"{field}: " in json.dumps(error)
    assert route == PLATFORM or error["param"] == field
    assert response.headers["x-platform-attempts"]
    assert len(simulator.requests()) == before
