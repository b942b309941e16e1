"""Send each feature through each pair of client format and provider format, and say what happened to it."""

import json
from collections.abc import Mapping
from typing import Any

from platform_app.llm.providers.openai_responses.reasoning import ENCRYPTED as ENCRYPTED_REASONING
from tests.support.documents.compatibility.features import BASES, FEATURES, OPTIONS
from tests.support.gateway.chat_routes import CLIENT_ROUTES, ChatRoute
from tests.support.gateway.in_process.gateway import WIRES, InProcessGateway, Reply
from tests.support.gateway.in_process.generated import ENCRYPTED, SIGNATURE, Generated, Segment, events_of, whole_of
from tests.support.gateway.in_process.provider import Script, json_script
from tests.support.providers.streams.rebuilt import message_in, message_of_stream

MODELS = {"anthropic": "claude-sonnet-4-5"}
PLAIN = Generated((Segment("text", ("Hel", "lo")),), (0, 0))
THOUGHT = "Hmm, rain."
THINKS = Generated((Segment("thought", (THOUGHT,)), Segment("call", ('{"city": "Rome"}',), "weather")), (0, 1))
PROOFS = {"anthropic": SIGNATURE, "openai-responses": ENCRYPTED}
"""What shows that a thought was sent back, by wire format; else its text does."""
NATIVE = {("chat", "openai"), ("chat", "azure"), ("responses", "openai-responses"), ("messages", "anthropic")}
PASSES, TRANSLATED, LEFT_OUT, REFUSED = "passes", "translated", "left out", "refused"
VISIBLE, SENT_BACK = "Reasoning in the response", "Reasoning of the response sent back"
MAX_TOKENS = 4096


async def request_verdict(route: ChatRoute, wire: str, feature: str, *, stream: bool) -> str:
    """Return what becomes of a feature of a request; with the field's name if it is refused."""
    base = {
        **route.body("Hello", model="m", max_tokens=MAX_TOKENS, stream=stream),
        **BASES[route.name].get(feature, {}),
    }
    asked = {**base, **FEATURES[route.name][feature]}
    options = dict(OPTIONS.get(feature, {}))
    if wire != "openai-responses":  # the config file allows it there alone
        options.pop("stores_responses", None)
    reply, received = await _send(route, wire, asked, PLAIN, stream=stream, options=options)
    if reply.status != 200:
        assert reply.status == 400, (route.name, wire, feature, reply)
        return f"{REFUSED}: {_refused_field(reply)}"
    _, without = await _send(route, wire, base, PLAIN, stream=stream)
    if received == without:
        return LEFT_OUT
    if (route.name, wire) in NATIVE:
        fields = FEATURES[route.name][feature]
        passed = {name: _as_sent(name, received.get(name)) for name in fields}
        assert passed == dict(fields), (route.name, wire, feature)
    return _kept(route, wire)


def _as_sent(name: str, value: Any) -> Any:
    """Return a field without the encrypted reasoning that the gateway asks for."""
    return [each for each in value if each != ENCRYPTED_REASONING] if name == "include" and value else value


async def response_verdict(route: ChatRoute, wire: str, feature: str, *, stream: bool) -> str:
    """Return what becomes of a feature of a response."""
    body = route.body("Hello", model="m", max_tokens=MAX_TOKENS, **FEATURES[route.name]["Tools"])
    reply, _ = await _send(route, wire, {**body, "stream": stream}, THINKS, stream=stream)
    if feature == VISIBLE:
        read = message_of_stream(route, reply.body) if stream else message_in(route, reply.json())
        return _kept(route, wire) if read.thoughts == THOUGHT else LEFT_OUT
    if stream:  # clients send back what they accumulated, which is the same message
        return await response_verdict(route, wire, feature, stream=False)
    again = {**body, **_next_turn(route, reply.json())}
    _, received = await _send(route, wire, again, PLAIN, stream=False)
    return _kept(route, wire) if PROOFS.get(wire, THOUGHT) in json.dumps(received) else LEFT_OUT


def _kept(route: ChatRoute, wire: str) -> str:
    return PASSES if (route.name, wire) in NATIVE else TRANSLATED


async def _send(
    route: ChatRoute,
    wire: str,
    body: Mapping[str, Any],
    made: Generated,
    *,
    stream: bool,
    options: Mapping[str, Any] | None = None,
) -> tuple[Reply, dict[str, Any]]:
    """Return the reply, and the body that the provider got; `options` are the provider's in the config file."""
    gateway = InProcessGateway(wire, MODELS.get(wire, "gpt-5"), **(options or {}))
    script = Script(events_of(wire, made), b"text/event-stream") if stream else json_script(whole_of(wire, made))
    reply = await gateway.ask(route.path, body, script, route.headers)
    if reply.status == 200:
        text = route.stream_text(reply.body) if stream else message_in(route, reply.json()).text
        assert text == made.text, (route.name, wire, body, text)
    received = gateway.provider.received
    return reply, received[-1].body if received else {}


def _next_turn(route: ChatRoute, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the request that sends the response and the result of its call back."""
    user = {"role": "user", "content": "Weather?"}
    match route.name:
        case "chat":
            message = body["choices"][0]["message"]
            result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "Sunny"}
            return {"messages": [user, message, result]}
        case "responses":
            called = next(item["call_id"] for item in body["output"] if item["type"] == "function_call")
            result = {"type": "function_call_output", "call_id": called, "output": "Sunny"}
            return {"input": [user, *body["output"], result]}
        case _:
            called = next(block["id"] for block in body["content"] if block["type"] == "tool_use")
            result = {"type": "tool_result", "tool_use_id": called, "content": "Sunny"}
            turn = {"role": "assistant", "content": body["content"]}
            return {"messages": [user, turn, {"role": "user", "content": [result]}]}


def _refused_field(reply: Reply) -> str:
    error = reply.json()["error"]
    named = error.get("param") or error["message"].partition(": ")[0].rpartition(" ")[2]
    return f"`{named}`"


async def row(route: ChatRoute, feature: str) -> str:
    """Return a feature's row in the table of its client format."""
    verdict = request_verdict if feature in FEATURES[route.name] else response_verdict
    cells = []
    for wire in WIRES:
        whole, streamed = [await verdict(route, wire, feature, stream=stream) for stream in (False, True)]
        assert whole == streamed, (route.name, wire, feature, whole, streamed)
        cells.append(whole)
    return f"| {feature} | {' | '.join(cells)} |"


def features_of(route: ChatRoute) -> list[str]:
    """Return the rows of a client format's table."""
    return [*FEATURES[route.name], VISIBLE, SENT_BACK]


async def tables() -> str:
    """Return the tables of all client formats, with their headings."""
    made = []
    for route in CLIENT_ROUTES:
        head = f"| | {' | '.join(f'`{wire}`' for wire in WIRES)} |"
        rows = [await row(route, feature) for feature in features_of(route)]
        made.append("\n".join([f"## `{route.path}`", "", head, "|---" * (len(WIRES) + 1) + "|", *rows]))
    return "\n\n".join(made) + "\n"
