"""The guarantees of the chat route, on every route that asks for a chat and over every provider format.

Each test sends the same request in each client format to a scripted provider, in process.
"""

import asyncio
from dataclasses import replace

import pytest

from platform_app.config import LimitRule
from platform_app.ledger.events.event import AccessDecision
from platform_app.ledger.events.usage_record import UsageRecord
from tests.support.gateway.chat_routes import MESSAGES, PLATFORM, ChatRoute, over_client_routes, over_routes
from tests.support.gateway.in_process.gateway import KEY, WIRES, InProcessGateway, Reply
from tests.support.gateway.in_process.generated import (
    OUTPUT_TOKENS,
    PROMPT_TOKENS,
    Generated,
    Segment,
    error_event,
    events_of,
    whole_of,
)
from tests.support.gateway.in_process.provider import Script, json_script

OVER_WIRES = pytest.mark.parametrize("wire", WIRES)
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
SAID = Generated((Segment("text", ("canary-", "output-8d1f")),), (0, 0))
OUTPUT, PROMPT = SAID.text, "canary-prompt-77c2"
RULES = [
    LimitRule(name="key-tpm", scope="key", unit="tokens", limit=1000, window_seconds=60),
    LimitRule(name="key-cost", scope="key", unit="cost_usd", limit=1, window_seconds=60),
]


def script(wire: str, *, stream: bool) -> Script:
    return Script(events_of(wire, SAID), b"text/event-stream") if stream else json_script(whole_of(wire, SAID))


async def send(gateway: InProcessGateway, route: ChatRoute, wire: str, *, stream: bool = False) -> Reply:
    body = route.body(PROMPT, model="m", stream=stream)
    return await gateway.ask(route.path, body, script(wire, stream=stream), route.headers)


def usage_of(gateway: InProcessGateway) -> UsageRecord:
    [record] = [event for event in gateway.ledger.events if isinstance(event, UsageRecord)]
    return record


def decision_of(gateway: InProcessGateway) -> AccessDecision:
    [decision] = [event for event in gateway.ledger.events if isinstance(event, AccessDecision)]
    return decision


@OVER_WIRES
@BOTH
@over_routes
async def test_request_is_billed_and_recorded(route: ChatRoute, wire: str, stream: bool) -> None:
    gateway = InProcessGateway(wire)
    reply = await send(gateway, route, wire, stream=stream)
    assert (reply.status, reply.complete) == (200, True)
    record, decision = usage_of(gateway), decision_of(gateway)
    assert (record.prompt_tokens, record.completion_tokens) == (PROMPT_TOKENS, OUTPUT_TOKENS)
    assert (record.outcome, record.estimated, record.stream) == ("ok", False, stream)
    assert record.cost_microusd == PROMPT_TOKENS * 1 + OUTPUT_TOKENS * 4
    assert (record.model, record.provider, record.route) == ("m", wire, route.path)
    assert (decision.route, decision.status, decision.decision) == (route.path, 200, "allow")
    assert decision.request_id == record.request_id == reply.headers["x-request-id"]
    written = "".join(str(event.line()) for event in (record, decision))
    assert PROMPT not in written
    assert OUTPUT not in written
    assert gateway.ledger.open_intents == 0


@OVER_WIRES
@over_client_routes
async def test_provider_gets_trace_and_key_alone(route: ChatRoute, wire: str) -> None:
    gateway = InProcessGateway(wire)
    headers = {
        **route.headers,
        "authorization": "Bearer fbp_client",
        "x-custom": "1",
        "cookie": "a=b",
        "openai-beta": "x",
    }
    reply = await gateway.ask(route.path, route.body(PROMPT, model="m"), script(wire, stream=False), headers)
    [received] = gateway.provider.received
    assert received.headers["traceparent"].split("-")[1] == reply.headers["traceparent"].split("-")[1]
    assert KEY in str(received.headers)
    assert not {"x-custom", "cookie", "openai-beta"} & set(received.headers)
    assert "fbp_client" not in str(received.headers)
    assert received.body.get("model", "up") == "up"


@BOTH
@over_routes
async def test_limit_refuses_in_shape_of_format(route: ChatRoute, stream: bool) -> None:
    gateway = InProcessGateway("openai", rules=RULES)
    gateway.limiter.deny_seconds = 7.0
    reply = await send(gateway, route, "openai", stream=stream)
    assert (reply.status, route.code_of(reply.json())) == (429, "rate_limited")
    assert reply.headers["retry-after"] == "7"
    assert gateway.provider.received == []
    assert decision_of(gateway).decision == "deny"
    if route is MESSAGES:
        assert (reply.json()["type"], reply.json()["error"]["type"]) == ("error", "rate_limit_error")


@over_client_routes
async def test_limiter_gets_the_same_charges(route: ChatRoute) -> None:
    """The limit of output tokens has another name in each format, and the prompt another place."""
    asked = []
    for each in (PLATFORM, route):
        gateway = InProcessGateway("openai", rules=RULES)
        await gateway.ask(
            each.path, each.body("Hello " * 400, model="m", max_tokens=500), script("openai", stream=False)
        )
        asked.append({charge.rule.name: charge.units for charge in gateway.limiter.asked[0]})
    assert set(asked[0]) == set(asked[1]) == {"key-tpm", "key-cost"}
    for name, units in asked[0].items():
        assert abs(asked[1][name] - units) <= units * 0.05


@BOTH
@over_routes
async def test_model_of_another_key_is_refused(route: ChatRoute, stream: bool) -> None:
    gateway = InProcessGateway("openai")
    gateway.caller = replace(gateway.caller, allowed_models=frozenset({"other"}))
    reply = await send(gateway, route, "openai", stream=stream)
    assert (reply.status, route.code_of(reply.json())) == (403, "model_not_allowed")
    assert gateway.provider.received == []


@OVER_WIRES
@pytest.mark.parametrize("field", ["models", "fallbacks", "api_base", "api_key", "Model", "provider"])
@over_client_routes
async def test_steering_field_is_refused(route: ChatRoute, wire: str, field: str) -> None:
    gateway = InProcessGateway(wire)
    body = {**route.body(PROMPT, model="m"), field: ["x"]}
    reply = await gateway.ask(route.path, body, script(wire, stream=False), route.headers)
    assert (reply.status, route.code_of(reply.json())) == (400, "invalid_request")
    assert field in reply.json()["error"]["message"]
    assert gateway.provider.received == []


@over_routes
async def test_draining_is_refused_in_shape_of_format(route: ChatRoute) -> None:
    gateway = InProcessGateway("openai")
    gateway.server.draining = True
    reply = await send(gateway, route, "openai")
    assert (reply.status, route.code_of(reply.json())) == (route.overloaded, "draining")
    assert reply.headers["retry-after"]


@over_routes
async def test_overload_is_refused_in_shape_of_format(route: ChatRoute) -> None:
    gateway = InProcessGateway("openai")
    gateway.server.in_flight = 1000
    reply = await send(gateway, route, "openai")
    assert (reply.status, route.code_of(reply.json())) == (route.overloaded, "overloaded")


@OVER_WIRES
@BOTH
@over_routes
async def test_disconnect_closes_provider_connection(route: ChatRoute, wire: str, stream: bool) -> None:
    """The connection is closed in the same turn of the event loop in which the request ends."""
    gateway, leaves = InProcessGateway(wire), asyncio.Event()
    events = events_of(wire, SAID)
    parts = events[: len(events) // 2 + 1] if stream else [b'{"id":']
    hanging = Script(parts, b"text/event-stream" if stream else b"application/json", hangs=True)
    body = route.body(PROMPT, model="m", stream=stream)
    asking = asyncio.create_task(gateway.ask(route.path, body, hanging, route.headers, leaves))
    while not gateway.provider.streams:
        await asyncio.sleep(0)
    [connection] = gateway.provider.streams
    await connection.idle.wait()
    leaves.set()
    await asking
    assert connection.closed
    assert (usage_of(gateway).outcome, decision_of(gateway).status) == ("client_closed", 499)
    assert gateway.ledger.open_intents == 0


@OVER_WIRES
@over_routes
async def test_failure_after_content_ends_in_error(route: ChatRoute, wire: str) -> None:
    gateway = InProcessGateway(wire)
    events = [*events_of(wire, SAID)[:-4], error_event(wire)]
    body = route.body(PROMPT, model="m", stream=True)
    reply = await gateway.ask(route.path, body, Script(events, b"text/event-stream"), route.headers)
    code = route.stream_error(reply.body) if reply.status == 200 else route.code_of(reply.json())
    assert code == usage_of(gateway).outcome
    assert code is not None
    assert code.startswith("provider_")
    assert KEY not in reply.body.decode()
