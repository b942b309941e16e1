"""Invalid bodies of every kind get a documented 4xx that names the field, never a 500; the gateway keeps working."""

import json
from typing import Any

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.support.gateway.process import Gateway
from tests.support.gateway.refused_bodies import refusal, still_works, tool


def user(content: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **fields}]}


# --- not JSON


NOT_JSON: dict[str, bytes] = {
    "empty": b"",
    "white space": b"  \n",
    "words": b"prompt=Hello",
    "cut": b'{"prompt": "Hel',
    "trailing comma": b'{"prompt": "Hello",}',
    "single quotes": b"{'prompt': 'Hello'}",
    "two documents": b'{"prompt": "a"}{"prompt": "b"}',
    "a byte order mark": b'\xef\xbb\xbf{"prompt": "Hello"}',
    "invalid UTF-8": b'{"prompt": "\xff\xfe"}',
    "a raw NUL": b'{"prompt": "a\x00b"}',
    "a raw line feed": b'{"prompt": "a\nb"}',
    "100,000 brackets": b"[" * 100_000,
    "100,000 brackets, closed": b"[" * 100_000 + b"]" * 100_000,
    "5,000 objects": b'{"messages":' * 5_000,
    "deep parameters": json.dumps(tool("@")).replace('"@"', '{"a":' * 5000 + "1" + "}" * 5000).encode(),
}


async def test_body_of_too_many_values_is_refused_before_parsing(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    for content in (b'{"messages":' * 100_000, b'{"prompt": [' + b"[]," * 200_000 + b"[]]}"):
        response = await client.post(gateway.chat_url, headers=headers, content=content)
        assert refusal(response)[:2] == (413, "payload_too_large")
    await still_works(client, gateway, headers)


@pytest.mark.parametrize("case", NOT_JSON)
async def test_body_that_cannot_be_parsed_is_refused(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], case: str
) -> None:
    response = await client.post(gateway.chat_url, headers=headers, content=NOT_JSON[case])
    status, code, _ = refusal(response)
    assert (status, code) == (400, "invalid_request")
    await still_works(client, gateway, headers)


ALMOST_JSON: dict[str, bytes] = {
    "surrogates as UTF-8": b'{"prompt": "\xed\xa0\x80"}',
    "NaN": b'{"prompt": "x", "temperature": NaN}',
    "Infinity": b'{"prompt": "x", "temperature": Infinity}',
    "-Infinity": b'{"prompt": "x", "temperature": -Infinity}',
    "NaN for a number of tokens": b'{"prompt": "x", "max_tokens": NaN}',
    "NaN in parameters": json.dumps(tool({"minimum": float("nan")})).encode(),
    "Infinity in a schema": b"""{"prompt": "x", "response_format":
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"minimum": -Infinity}}}}""",
}


@pytest.mark.parametrize("case", ALMOST_JSON)
async def test_json_of_lenient_parsers_is_refused(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], simulator: ProviderSimulator, case: str
) -> None:
    """Forwarded, it would become null: the provider would get another request than the client sent."""
    before = simulator.count("sim-ok")
    response = await client.post(gateway.chat_url, headers=headers, content=ALMOST_JSON[case])
    assert refusal(response)[:2] in ((400, "invalid_request"), (422, "validation_error"))
    assert simulator.count("sim-ok") == before


# --- JSON of another shape; each with the text that a detail must start with


def _many(count: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "x"}] * count}


OTHER_SHAPE: dict[str, tuple[Any, str]] = {
    "null": (None, "body"),
    "a list": ([], "body"),
    "a string": ("Hello", "body"),
    "a number": (1, "body"),
    "nothing": ({}, "body: exactly one of messages and prompt"),
    "both": ({"prompt": "x", **user("y")}, "body: exactly one of messages and prompt"),
    "nulls": ({"prompt": None, "messages": None}, "body: exactly one of messages and prompt"),
    "an unknown field": ({"prompt": "x", "n": 2}, "n: is not a field"),
    "an odd unknown field": ({"prompt": "x", "__proto__": {}}, "__proto__: is not a field"),
    "prompt a number": ({"prompt": 1}, "prompt"),
    "prompt empty": ({"prompt": ""}, "prompt"),
    "messages a string": ({"messages": "x"}, "messages"),
    "messages empty": ({"messages": []}, "messages"),
    "messages of strings": ({"messages": ["x"]}, "messages[0]"),
    "10,000 messages": (_many(10_000), "messages"),
    "10,000 bad messages": ({"messages": [{}] * 10_000}, "messages"),
    "an unknown role": ({"messages": [{"role": "root", "content": "x"}]}, "messages[0]"),
    "no content": ({"messages": [{"role": "user"}]}, "messages[0].content"),
    "content a number": (user(1), "messages[0].content"),
    "a null content": (user(None), "messages[0].content"),
    "an unknown part": (user([{"type": "audio"}]), "messages[0].content[0]"),
    "an extra in a part": (user([{"type": "text", "text": "x", "y": 1}]), "messages[0].content[0].y"),
    "a bad image": (user([{"type": "image_url", "image_url": "x"}]), "messages[0].content[0].image_url"),
    "an extra in a message": (user("x", secret="y"), "messages[0].secret"),
    "the second message": ({"messages": [*user("x")["messages"], *user(2)["messages"]]}, "messages[1].content"),
    "a tool message without id": ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    "model a number": ({"prompt": "x", "model": 4}, "model"),
    "model a path": ({"prompt": "x", "model": "../etc"}, "model"),
    "model long": ({"prompt": "x", "model": "m" * 129}, "model"),
    "stream a word": ({"prompt": "x", "stream": "maybe"}, "stream"),
    "temperature high": ({"prompt": "x", "temperature": 2.1}, "temperature"),
    "temperature a list": ({"prompt": "x", "temperature": [1]}, "temperature"),
    "top_p negative": ({"prompt": "x", "top_p": -0.1}, "top_p"),
    "max_tokens zero": ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
    "max_tokens half": ({"prompt": "x", "max_tokens": 1.5}, "max_tokens"),
    "max_tokens huge": ({"prompt": "x", "max_tokens": 10**30}, "max_tokens"),
    "seed beyond 64 bits": ({"prompt": "x", "seed": 2**63}, "seed"),
    "seed of 4,000 digits": ({"prompt": "x", "seed": int("9" * 4000)}, "seed"),
    "stop of five": ({"prompt": "x", "stop": ["a"] * 5}, "stop"),
    "tools empty": ({"prompt": "x", "tools": []}, "tools"),
    "a tool's name": ({"prompt": "x", "tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0]"),
    "parameters a list": (tool([]), "tools[0].function.parameters"),
    "tool_choice": ({"prompt": "x", "tool_choice": "any"}, "tool_choice"),
    "response_format": ({"prompt": "x", "response_format": {"type": "xml"}}, "response_format.type"),
    "17 pairs of metadata": ({"prompt": "x", "metadata": {str(n): "" for n in range(17)}}, "metadata"),
    "metadata a number": ({"prompt": "x", "metadata": {"a": 1}}, "metadata.a"),
    "conversation_id long": ({"prompt": "x", "conversation_id": "c" * 201}, "conversation_id"),
    "a lone surrogate": ({"prompt": "a\ud800b"}, "prompt"),
    "a low surrogate": ({"prompt": "\udfff"}, "prompt"),
    "surrogates the wrong way round": ({"prompt": "\udc00\ud800"}, "prompt"),
    "a surrogate in a message": (user("a\ud83d"), "messages[0].content"),
    "a surrogate in a key": ({"prompt": "x", "metadata": {"a\ud800": "b"}}, "metadata"),
    "a surrogate in a field's name": ({"prompt": "x", "\ud800": "b"}, "body"),
    "a surrogate in parameters": (tool({"a": ["\ud800"]}), "tools[0].function.parameters.a[0]"),
    "NUL": ({"prompt": "a\0b"}, "prompt"),
    "NUL in a message": (user([{"type": "text", "text": "\0"}]), "messages[0].content[0].text"),
    "NUL in a key": ({"prompt": "x", "metadata": {"a\0": "b"}}, "metadata"),
    "NUL in the conversation_id": ({"prompt": "x", "conversation_id": "\0"}, "conversation_id"),
}


@pytest.mark.parametrize("case", OTHER_SHAPE)
async def test_json_of_another_shape_is_refused(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], simulator: ProviderSimulator, case: str
) -> None:
    body, named = OTHER_SHAPE[case]
    before = simulator.count("sim-ok")

    response = await client.post(gateway.chat_url, headers=headers, content=json.dumps(body))

    status, code, details = refusal(response)
    assert (status, code) == (422, "validation_error")
    assert 1 <= len(details) <= 20
    assert any(line.startswith(named) for line in details), details
    assert simulator.count("sim-ok") == before
    await still_works(client, gateway, headers)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 5000, "1e-400000000", "0." + "3" * 100_000])
@pytest.mark.parametrize("field", ["temperature", "max_tokens", "seed"])
async def test_number_out_of_range_is_refused(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], field: str, number: str
) -> None:
    body = f'{{"prompt": "x", "{field}": {number}}}'
    response = await client.post(gateway.chat_url, headers=headers, content=body)
    if (field == "temperature" and 0 <= float(number) <= 2) or (field == "seed" and float(number) == 0):
        assert response.status_code == 200  # tiny or long, but a number within the range
        return
    status, code, details = refusal(response)
    assert (status, code) in ((422, "validation_error"), (400, "invalid_request"))
    assert status == 400 or details[0].startswith(f"{field}: ")


@pytest.mark.parametrize("number", ["18446744073709551616", "-9223372036854775809", "1" + "0" * 4000, "1e400"])
async def test_number_that_json_cannot_hold_is_refused(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], number: str
) -> None:
    """`parameters` may hold any JSON, but a number that JSON writers cannot write becomes neither a 500 nor null."""
    body = json.dumps(tool({"maximum": "@"})).replace('"@"', number)
    response = await client.post(gateway.chat_url, headers=headers, content=body)
    status, code, _ = refusal(response)
    assert (status, code) in ((422, "validation_error"), (400, "invalid_request"))


async def test_ordinary_schema_is_accepted(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], simulator: ProviderSimulator
) -> None:
    parameters: dict[str, Any] = {"maximum": 2**63 - 1, "multipleOf": 0.1}
    for _ in range(50):
        parameters = {"type": "object", "properties": {"a": parameters}}
    response = await client.post(gateway.chat_url, headers=headers, json=tool(parameters))
    assert response.status_code == 200
    sent = simulator.requests("sim-ok")[-1].body
    assert sent is not None
    assert json.loads(sent)["tools"] == tool(parameters)["tools"]


@pytest.mark.parametrize("depth", [100, 150, 200, 250, 300, 1000])
async def test_json_of_any_depth_gets_a_response(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], depth: int
) -> None:
    """No parser on the way fails at any depth."""
    body = json.dumps(tool("@")).replace('"@"', '{"a":' * depth + "1" + "}" * depth)
    response = await client.post(gateway.chat_url, headers=headers, content=body)
    assert response.status_code == 200 or refusal(response)[0] in (400, 422)


async def test_value_of_the_client_is_not_repeated(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    canary = "canary-4c1d77"
    bodies: list[dict[str, Any]] = [
        {"prompt": [canary]}, {"prompt": "x", "tool_choice": canary}, user("x", name=canary + "!"),
        {"prompt": "x", "response_format": {"type": canary}}, {"prompt": "x", "model": "/" + canary},
        {"messages": [{"role": canary, "content": "x"}]}, {"messages": [{"role": "user", "content": [canary]}]},
    ]  # fmt: skip
    for body in bodies:
        response = await client.post(gateway.chat_url, headers=headers, json=body)
        assert response.status_code == 422
        assert canary not in response.text


async def test_long_name_is_cut_in_an_error(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    bodies: tuple[dict[str, Any], ...] = (
        {"prompt": "x", "y" * 100_000: 1},
        {"prompt": "x", "metadata": {"y" * 100_000: "z"}},
        {"prompt": "x", **{f"{n}{'y' * 10_000}": 1 for n in range(20)}},
    )
    for body in bodies:
        response = await client.post(gateway.chat_url, headers=headers, json=body)
        assert refusal(response)[:2] == (422, "validation_error")
        assert len(response.content) < 10_000


async def test_repeated_field_uses_its_last_value(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], simulator: ProviderSimulator
) -> None:
    """As in nearly every parser. The provider gets the value that was checked, not the client's text."""
    response = await client.post(
        gateway.chat_url,
        headers=headers,
        content=b'{"prompt": "a", "model": "sim-hang", "model": "gpt-4o", "prompt": "b"}',
    )
    assert (response.status_code, response.json()["output"]) == (200, "You said: b")
    sent = simulator.requests("gpt-4o")[-1].body
    assert sent is not None
    assert sent.count(b'"model"') == 1


async def test_escaped_backslash_before_u0000_is_accepted(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    response = await client.post(gateway.chat_url, headers=headers, json={"prompt": "a\\u0000"})
    assert (response.status_code, response.json()["output"]) == (200, "You said: a\\u0000")


async def test_every_unicode_character_is_returned(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    text = "".join(map(chr, [*range(1, 0xD800, 97), *range(0xE000, 0x110000, 997)]))
    response = await client.post(gateway.chat_url, headers=headers, json={"prompt": text})
    assert (response.status_code, response.json()["output"]) == (200, f"You said: {text}")
