"""A repeated request gets the stored response, or is refused."""

import asyncio
import json
from typing import Any

import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway.http import access_line
from tests.support.idempotency.caller import (
    EMBEDDINGS,
    MESSAGES,
    OPENAI,
    PLATFORM,
    RESPONSES,
    Caller,
    error_code,
    provider_calls,
    request_body,
)


@pytest.mark.parametrize("route", [PLATFORM, OPENAI, RESPONSES, MESSAGES, EMBEDDINGS])
async def test_repeated_request_gets_same_response_and_one_call(
    caller: Caller, sim: ProviderSimulator, fresh: str, route: str
) -> None:
    first = await caller.send(fresh, route)
    again = await caller.send(fresh, route, None, **{"X-Request-ID": f"again-{fresh}"})

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert provider_calls(sim) == 1
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    own = {"content-type", "x-platform-provider", "x-platform-model", "x-platform-attempts"}
    assert {name: again.headers[name] for name in own} == {name: first.headers[name] for name in own}
    assert again.headers["x-request-id"] == f"again-{fresh}"
    assert again.headers["traceparent"] != first.headers["traceparent"]
    assert "ratelimit" in first.headers
    left = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in (first, again)]
    assert left[1] < left[0], "a replay is a request"
    line = await access_line(caller.gateway, f"again-{fresh}")
    assert (line["status"], line["decision"], line["reason"], line["provider"]) == (
        200, "allow", "idempotent_replay", None,
    )  # fmt: skip


@pytest.mark.parametrize("route", [PLATFORM, OPENAI, RESPONSES, MESSAGES])
async def test_stream_is_replayed_event_by_event(
    caller: Caller, sim: ProviderSimulator, fresh: str, route: str
) -> None:
    body = request_body(route, "One two three", stream=True)
    first = await caller.send(fresh, route, body)
    again = await caller.send(fresh, route, body)

    assert first.headers["content-type"] == again.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert again.content == first.content
    assert first.text.count("\n\n") > 3
    assert again.headers["cache-control"] == first.headers["cache-control"]
    assert again.headers["idempotency-replayed"] == "true"
    assert provider_calls(sim) == 1


async def test_complete_stream_is_stored_despite_disconnect(caller: Caller, sim: ProviderSimulator, fresh: str) -> None:
    """Clients hang up at `[DONE]`: by then the response is stored."""
    body = request_body(OPENAI, stream=True)
    headers = {
        "Authorization": f"Bearer {caller.key}", "Idempotency-Key": fresh, "Content-Type": "application/json",
    }  # fmt: skip
    url = f"{caller.gateway.base_url}{OPENAI}"
    text = ""
    async with caller.client.stream("POST", url, headers=headers, content=json.dumps(body)) as response:
        async for piece in response.aiter_text():
            text += piece
            if "[DONE]" in text:
                break
    again = await caller.send(fresh, OPENAI, body)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.text == text
    assert provider_calls(sim) == 1


async def test_provider_refusal_is_replayed(caller: Caller, sim: ProviderSimulator, fresh: str) -> None:
    body = request_body(PLATFORM, model="sim-context-length")
    first = await caller.send(fresh, body=body)
    again = await caller.send(fresh, body=body)
    assert (first.status_code, again.status_code) == (400, 400)
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert provider_calls(sim) == 1


async def test_key_belongs_to_one_caller_and_route(
    caller: Caller, sim: ProviderSimulator, fresh: str, platform: Platform
) -> None:
    other = Caller(caller.client, caller.gateway, platform.key("platform:chat"))
    answers = [await caller.send(fresh), await other.send(fresh), await caller.send(fresh, OPENAI)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert all("idempotency-replayed" not in answer.headers for answer in answers)
    assert provider_calls(sim) == 3


@pytest.mark.parametrize("route", [PLATFORM, OPENAI, RESPONSES, MESSAGES])
async def test_key_with_another_body_is_refused(caller: Caller, sim: ProviderSimulator, fresh: str, route: str) -> None:
    assert (await caller.send(fresh, route)).status_code == 200
    other = await caller.send(fresh, route, request_body(route, "Something else"))
    assert (other.status_code, error_code(other)) == (422, "validation_error")
    assert "another body" in other.json()["error"]["message"]
    if route == OPENAI:
        assert other.json()["error"]["param"] == "Idempotency-Key"
    assert (await caller.send(fresh, route)).headers["idempotency-replayed"] == "true"
    assert provider_calls(sim) == 1


@pytest.mark.parametrize("route", [PLATFORM, OPENAI, RESPONSES, MESSAGES])
async def test_request_while_first_is_running_gets_409(
    caller: Caller, sim: ProviderSimulator, fresh: str, route: str
) -> None:
    body = request_body(route, model="sim-slow-stream")
    running = asyncio.create_task(caller.send(fresh, route, body))
    await sim.wait_for_outcome("sim-slow-stream", "open")
    meanwhile = await caller.send(fresh, route, body)
    assert (meanwhile.status_code, error_code(meanwhile)) == (409, "idempotency_in_flight")
    assert int(meanwhile.headers["retry-after"]) >= 1
    wrong = await caller.send(fresh, route, request_body(route, "Other"))
    assert wrong.status_code == 422
    first = await running
    assert (await caller.send(fresh, route, body)).content == first.content
    assert provider_calls(sim) == 1


@pytest.mark.parametrize("value", ["", "x" * 256, "caf\u00e9", "a\u00ffb"])
async def test_malformed_key_is_refused(caller: Caller, sim: ProviderSimulator, value: str) -> None:
    response = await caller.client.post(
        caller.gateway.chat_url,
        headers=[
            (b"Authorization", f"Bearer {caller.key}".encode()),
            (b"Idempotency-Key", value.encode("latin-1")),
        ],
        json=request_body(PLATFORM),
    )
    assert (response.status_code, error_code(response)) == (422, "validation_error")
    assert "1 to 255 printable ASCII" in response.json()["error"]["message"]
    assert provider_calls(sim) == 0


async def test_two_key_headers_are_refused(caller: Caller) -> None:
    headers = [("Authorization", f"Bearer {caller.key}"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = await caller.client.post(caller.gateway.chat_url, headers=headers, json=request_body(PLATFORM))
    assert response.status_code == 422


async def test_longest_key_is_accepted(caller: Caller, fresh: str) -> None:
    key = f"{fresh} {{}} ~!\"'".ljust(255, "z")
    first = await caller.send(key)
    assert (await caller.send(key)).content == first.content


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"prompt": "Hello", "colour": "blue"}, 422),
        ({"prompt": "Hello", "model": "no-such-model"}, 404),
        ({"prompt": "Hello", "model": "sim-server-error"}, 502),
        ({"prompt": "Hello", "model": "sim-rate-limited"}, 503),
    ],
)
async def test_failed_request_is_not_stored(
    caller: Caller, sim: ProviderSimulator, fresh: str, body: dict[str, Any], status: int
) -> None:
    for _ in range(2):
        response = await caller.send(fresh, body=body)
        assert response.status_code == status
        assert "idempotency-replayed" not in response.headers
    if status >= 500:
        calls = provider_calls(sim)
        assert calls >= 2
        assert calls % 2 == 0
    # The key is free for the corrected request.
    assert (await caller.send(fresh)).status_code == 200


async def test_unauthenticated_request_does_not_take_key(caller: Caller, sim: ProviderSimulator, fresh: str) -> None:
    stranger = Caller(caller.client, caller.gateway, "fbp_test_wrong")
    assert (await stranger.send(fresh)).status_code == 401
    assert (await caller.send(fresh)).status_code == 200


@pytest.mark.parametrize("route", [PLATFORM, OPENAI, RESPONSES, MESSAGES])
async def test_stream_that_fails_midway_is_not_stored(
    caller: Caller, sim: ProviderSimulator, fresh: str, route: str
) -> None:
    body = request_body(route, "Hello, world", model="sim-stream-drop", stream=True)
    for calls in (1, 2):
        response = await caller.send(fresh, route, body)
        assert response.status_code == 200
        assert "error" in response.text
        assert "idempotency-replayed" not in response.headers
        assert provider_calls(sim) == calls
