"""Every stream of every pair of client format and provider format: its grammar, its end, and what clients rebuild.

Hypothesis chooses what the model generates, the order of the events, how their bytes arrive, and where they fail. A
provider's stream that is not complete must never look complete to the client.
"""

import asyncio
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_app.ledger.events.usage_record import UsageRecord
from tests.support.gateway.chat_routes import CLIENT_ROUTES, ChatRoute
from tests.support.gateway.in_process.gateway import WIRES, InProcessGateway, Reply
from tests.support.gateway.in_process.generated import (
    ODD,
    OUTPUT_TOKENS,
    PROMPT_TOKENS,
    Generated,
    Segment,
    error_event,
    events_of,
    whole_of,
)
from tests.support.gateway.in_process.provider import Script, json_script
from tests.support.providers.streams.rebuilt import Message, check_failure, message_in, message_of_stream

PAIRS = pytest.mark.parametrize("wire", WIRES)
TOOLS = ("clock", "weather", "search")
FAULTS = ("none", "none", "cut", "lost", "error", "garbage")
EXAMPLES = 40

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
arguments = st.dictionaries(st.sampled_from(["x", "y"]), st.one_of(st.integers(-9, 9), texts), max_size=2)


@st.composite
def parts_of(draw: st.DrawFn, text: str) -> tuple[str, ...]:
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=3)))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return tuple(part for part in parts if part)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    kind = draw(st.sampled_from(["text", "text", "call"]))
    if kind == "text":
        return Segment("text", draw(parts_of(draw(texts))))
    made = json.dumps(draw(arguments), ensure_ascii=draw(st.booleans()))
    return Segment("call", draw(parts_of(made)), draw(st.sampled_from(TOOLS)))


@st.composite
def outputs(draw: st.DrawFn) -> Generated:
    found = draw(st.lists(segments(), min_size=1, max_size=4))
    if draw(st.booleans()):
        found.insert(0, Segment("thought", draw(parts_of(draw(texts)))))
    places = [at for at, segment in enumerate(found) for _ in segment.parts]
    mixed = sum(segment.kind == "text" for segment in found) < 2  # texts of chat completions have no index
    order = draw(st.permutations(places)) if mixed and draw(st.booleans()) else places
    cut = draw(st.booleans()) and not any(segment.kind == "call" for segment in found)
    return Generated(tuple(found), tuple(order), cut)


@st.composite
def scripts(draw: st.DrawFn, wire: str) -> tuple[Generated, Script, bool]:
    """Return what is generated, the provider's bytes, and whether they fail before the response is complete."""
    made = draw(outputs())
    events = events_of(wire, made)
    end = events[-3 if wire in ("openai", "azure") else -1]
    fault = draw(st.sampled_from(FAULTS))
    if fault in ("error", "garbage"):
        at = draw(st.integers(0, len(events) - (3 if wire in ("openai", "azure") else 1)))
        bad = error_event(wire) if fault == "error" else b'data: {"id": "c\n\n'
        events = [*events[:at], bad, *events[at:]]
    for _ in range(draw(st.integers(0, 2))):
        events.insert(draw(st.integers(0, len(events))), draw(st.sampled_from(ODD[wire])))
    raw = b"".join(events)
    if fault in ("cut", "lost"):
        # Before the event that completes the response: odd events may come after it.
        raw = raw[: draw(st.integers(0, len(b"".join(events[: events.index(end)]))))]
    sizes = draw(st.lists(st.integers(1, 60), max_size=12))
    parts, at = [], 0
    for size in sizes:
        parts.append(raw[at : at + size])
        at += size
    parts = [part for part in [*parts, raw[at:]] if part]
    return made, Script(parts, b"text/event-stream", lost=fault == "lost"), fault != "none"


def ask(gateway: InProcessGateway, route: ChatRoute, script: Script, *, stream: bool) -> Reply:
    body = route.body(model="m", stream=stream)
    return asyncio.run(gateway.ask(route.path, body, script, route.headers))


def expected(made: Generated) -> Message:
    calls = tuple((name, json.loads(given)) for name, given in made.calls)
    return Message(made.text, calls, made.reason, (PROMPT_TOKENS, OUTPUT_TOKENS))


def without_thoughts(message: Message) -> Message:
    return replace(message, thoughts="")


def outcome(gateway: InProcessGateway) -> str:
    [record] = [event for event in gateway.ledger.events if isinstance(event, UsageRecord)]
    return record.outcome


@PAIRS
@pytest.mark.parametrize("route", CLIENT_ROUTES, ids=lambda route: route.name)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_stream_is_complete_or_ends_in_error(route: ChatRoute, wire: str, data: st.DataObject) -> None:
    made, script, fails = data.draw(scripts(wire))
    gateway = InProcessGateway(wire)
    reply = ask(gateway, route, script, stream=True)
    if reply.status != 200:
        assert fails
        assert route.code_of(reply.json()).startswith("provider_")
        assert outcome(gateway) == route.code_of(reply.json())
        return
    assert reply.complete
    if fails:
        check_failure(route, reply.body)
        assert outcome(gateway) not in ("ok", "internal_error")
        return
    rebuilt = message_of_stream(route, reply.body)
    if route.name == "chat":
        rebuilt = replace(rebuilt, usage=(PROMPT_TOKENS, OUTPUT_TOKENS))  # not requested, so not sent
    assert without_thoughts(rebuilt) == without_thoughts(expected(made))
    assert outcome(gateway) == "ok"


@PAIRS
@pytest.mark.parametrize("route", CLIENT_ROUTES, ids=lambda route: route.name)
@settings(max_examples=EXAMPLES, deadline=None)
@given(made=outputs())
def test_stream_rebuilds_message_of_json(route: ChatRoute, wire: str, made: Generated) -> None:
    whole = ask(InProcessGateway(wire), route, json_script(whole_of(wire, made)), stream=False)
    streamed = ask(InProcessGateway(wire), route, Script(events_of(wire, made), b"text/event-stream"), stream=True)
    assert (whole.status, streamed.status) == (200, 200)
    first, second = message_in(route, whole.json()), message_of_stream(route, streamed.body)
    if route.name == "chat":
        second = replace(second, usage=first.usage)  # not requested, so not sent
    assert second == first
