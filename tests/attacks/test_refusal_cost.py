"""What refusing a body costs, in CPU time and memory, against what accepting one costs.

CPU time is the thread's own, so a busy machine does not lengthen it, and each figure is the least of several; all
bounds are multiples of what an accepted body takes in the same run. Where a request is translated to the wire format of
its model, the translation counts, and so does naming the client's fields in its error.
"""

import asyncio
import base64
import gc
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message

from apps.platform_api.chat.schemas import ChatRequestBody
from apps.platform_api.http.body.json_body import parse
from apps.platform_api.http.body.request_body import BodyBudget, BodyLimits, BoundedRequestBody
from apps.platform_api.messages.requests import parse_messages_body
from apps.platform_api.openai.requests import parse_openai_body
from apps.platform_api.responses.requests import parse_responses_body
from platform_app.config import ProviderConfig
from platform_app.errors import PlatformError
from platform_app.llm.http.response import ProviderLimits
from platform_app.llm.providers.factory import make_adapter
from platform_app.llm.requests import ModelRequest, Operation, UpstreamCall
from platform_app.llm.translation.field_names.client_fields import TranslatingAdapter, name_client_fields

pytestmark = pytest.mark.proof

MIB = 1024 * 1024
CAP = 10 * MIB
CPU_MULTIPLE = 3.0
"""Of what an accepted body of the same number of bytes takes."""
MEMORY_MULTIPLE = 4.0
FIXED_SECONDS = 0.005
FIXED_BYTES = 8 * MIB
"""What the values of a small body may take: their number is bounded, and 50,000 empty objects are 16 MiB."""
READ_BYTES = 320 * 1024
"""What the server hands over at once, at most."""


@dataclass(frozen=True)
class Cost:
    seconds: float
    peak_bytes: int
    outcome: str


async def handle(raw: bytes, parser: Callable[..., object]) -> str:
    """A body's way from the socket to the handler: read in parts, counted, parsed, checked."""
    parts = iter(range(0, max(1, len(raw)), READ_BYTES))

    async def receive() -> Message:
        start = next(parts)
        return {
            "type": "http.request", "body": raw[start : start + READ_BYTES], "more_body": start + READ_BYTES < len(raw),
        }  # fmt: skip

    body = BoundedRequestBody({"headers": []}, receive, BodyLimits(CAP, 60), BodyBudget(CAP, CAP))
    try:
        text = await body.read("key")
        parser(text, body.facts)
    except PlatformError as error:
        return error.code
    finally:
        body.release()
    return "accepted"


def platform(raw: bytes, facts: object) -> object:
    return parse(ChatRequestBody, raw, facts)  # type: ignore[arg-type]  # as it comes from the body


def openai(raw: bytes, facts: object) -> object:
    return parse_openai_body(raw, Operation.CHAT, facts)  # type: ignore[arg-type]  # see above


def translated(client: str, wire: str, raw: bytes, facts: Any) -> object:
    """Read a request of this client format, and translate it to the wire format of its model's provider."""
    request: ModelRequest
    match client:
        case "chat":
            request = parse_openai_body(raw, Operation.CHAT, facts).request
        case "responses":
            request = parse_responses_body(raw, facts).request()
        case _:
            request = parse_messages_body(raw, Operation.CHAT, facts)
    config = ProviderConfig.model_validate({"wire_format": wire, "base_url": "http://provider/v1"})
    pool: Any = None
    adapter = make_adapter(config, pool, ProviderLimits(30.0, 30.0, 1 << 25))
    call = UpstreamCall("up", request.body, 10.0, stream=request.stream, format=request.format)
    assert isinstance(adapter, TranslatingAdapter)
    try:
        return adapter.translate(call)
    except PlatformError as error:
        name_client_fields(error, call, adapter)
        raise


TRANSLATIONS = (
    ("chat", "anthropic"), ("chat", "openai-responses"), ("responses", "openai"), ("responses", "anthropic"),
    ("messages", "openai"), ("messages", "openai-responses"),
)  # fmt: skip
PARSERS: dict[str, Callable[..., object]] = {
    "platform": platform,
    "openai": openai,
    **{f"{client} to {wire}": partial(translated, client, wire) for client, wire in TRANSLATIONS},
}


def cost_of(raw: bytes, parser: Callable[..., object], *, times: int = 3) -> Cost:
    """The least CPU time of several runs, and the peak of what Python allocated in one."""
    with asyncio.Runner() as runner:
        seconds = []
        for _ in range(times):
            gc.collect()
            started = time.thread_time()
            outcome = runner.run(handle(raw, parser))
            seconds.append(time.thread_time() - started)
        tracemalloc.start()
        try:
            runner.run(handle(raw, parser))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    return Cost(min(seconds), peak, outcome)


def conversation(size: int) -> bytes:
    """An ordinary conversation of about this size: several parts in each message, a sentence in each."""
    part = {"type": "text", "text": "Say hello to everybody who is here."}
    message = {"role": "user", "content": [part] * 8}
    return orjson.dumps({"messages": [message] * max(1, min(2048, size // len(orjson.dumps(message))))})


@pytest.fixture(scope="module", autouse=True)
def collects_garbage_as_a_worker_does() -> Iterator[None]:
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(14_000)
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def short_texts(client: str, size: int) -> bytes:
    """An accepted request of about this size, of texts as short as those of the hostile ones."""
    kind = "input_text" if client == "responses" else "text"
    part = {"type": kind, "text": "x"}
    message = {"role": "user", "content": [part] * (size // len(orjson.dumps(part)))}
    body: dict[str, Any] = {"input": [message]} if client == "responses" else {"messages": [message]}
    return orjson.dumps({**body, "max_tokens": 5} if client == "messages" else body)


@pytest.fixture(scope="module", params=PARSERS)
def way(request: pytest.FixtureRequest) -> tuple[Callable[..., object], Cost, int]:
    """A parser, what it takes for an accepted body, and that body's size."""
    client, _, wire = request.param.partition(" to ")
    raw = short_texts(client, 300 * 1024) if wire else conversation(400 * 1024)
    cost = cost_of(raw, PARSERS[request.param], times=5)
    assert cost.outcome == "accepted"
    return PARSERS[request.param], cost, len(raw)


KEY = b"k" * 100_000
COMMA = b","
PARTS = b'{"role":"user","content":[' + b"{}," * 99 + b"{}]}"
HOSTILE = {
    "long name over zeros, half a surrogate": b'{"' + KEY + b'": [' + b"0," * 99_000 + rb'"\ud800"]}',
    "long name over zeros, half a surrogate, large": b'{"' + KEY + b'": [' + b"0," * 2 * MIB + rb'"\ud800"]}',
    "nested long names": b'{"a":{"' + KEY[:20_000] + b'":' + b'{"b":[0,0,0,1e999]}' + b"}}",
    "empty parts": b'{"messages":[' + COMMA.join([PARTS] * 2048 * 2) + b"]}",
    "a few empty parts": b'{"messages":[' + COMMA.join([PARTS] * 300) + b"]}",
    "unknown fields": b"{" + b",".join(b'"f%d":0' % number for number in range(700_000)) + b"}",
    "some unknown fields": b"{" + b",".join(b'"f%d":0' % number for number in range(30_000)) + b"}",
    "unknown fields in each message": b'{"messages":[' + b",".join(
        [b'{"role":"user",' + b",".join(b'"f%d":0' % number for number in range(900)) + b"}"] * 40) + b"]}",
    "empty lists": b'{"messages":[' + b"[]," * (3 * MIB) + b"[]]}",
    "empty texts": b'{"messages":[' + b'"",' * (3 * MIB) + b'""]}',
    "nothing but quotes": b'"' * CAP,
    "nothing but backslashes": b'{"a":"' + b"\\" * (CAP - 8),
    "nothing but brackets": b"[" * CAP,
    "nothing but digits": b'{"a":' + b"9" * (CAP - 6) + b"}",
    "long numbers": b'{"messages":[' + b"12345678901234567890123," * 40_000 + b"1]}",
    "escapes without an end": b'{"prompt":"' + b"\\u0041" * (CAP // 6 - 3),
    "deep": b'{"messages":' * 8000 + b"1" + b"}" * 8000,
    "not UTF-8 at the end": b'{"prompt":"' + b"x" * (CAP - 20) + b'\xff"}',
    "text behind the end": b'{"prompt":"x"}' + b" " * (CAP - 20) + b"x",
    "metadata of many": b'{"prompt":"x","metadata":{' + b",".join(b'"m%d":0' % n for n in range(30_000)) + b"}}",
    "stop of many": b'{"prompt":"x","stop":[' + b"0," * 90_000 + b"0]}",
    "tools of many": b'{"prompt":"x","tools":[' + b"{}," * 30_000 + b"{}]}",
    "wrong roles": b'{"messages":[' + b'{"role":"' + b"r" * 30 + b'"},' * 30_000 + b"{}]}",
}  # fmt: skip


USER = {"role": "user", "content": "x"}
CALLED = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
MANY = b"[" + b"[]," * 300_000 + b"[]]"
CARRIED = "fbt1." + base64.urlsafe_b64encode(b"[" + b"{}," * 300_000 + b"{}]").decode()
SIGNED = "fbr1." + base64.urlsafe_b64encode(b'{"type":"reasoning","x":%b}' % MANY).decode()


def asked(*turns: object, **fields: object) -> bytes:
    return orjson.dumps({"messages": [USER, *turns], "max_tokens": 5, **fields})


def given_to(*items: object, **fields: object) -> bytes:
    return orjson.dumps({"input": [USER, *items], **fields})


def with_arguments(text: str) -> bytes:
    call = {"id": "a", "function": {"name": "f", "arguments": text}}
    return asked({"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "a", "content": "x"})


def with_schema(schema: object) -> bytes:
    return asked(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})


def with_image(url: str) -> bytes:
    return asked({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})


HOSTILE_REQUESTS: dict[str, dict[str, bytes]] = {
    "chat": {
        "a data URL of blanks": with_image("data:" + " " * 100_000 + "x"),
        "a data URL of escapes": with_image("data:image/png;base64," + "%41" * 300_000),
        "calls with one id": asked({"role": "assistant", "tool_calls": [CALLED] * 5000}),
        "many results": asked({"role": "assistant", "tool_calls": [CALLED] * 3000},
                              *[{"role": "tool", "tool_call_id": "a", "content": "x"}] * 3000),
        "many values in arguments": with_arguments(f'{{"a":{MANY.decode()}}}'),
        "numbers in arguments": with_arguments('{"a":[' + "1," * 500_000 + '1],"b":1e999}'),
        "a schema with a long name": with_schema({"properties": {"k" * 200_000: {"anyOf": [{}] * 5000}}}),
        "an unknown field with a long name": asked(**{"k" * 500_000: 1}),
        "refused at its end": asked(*[USER] * 5000, {"role": "unknown"}),
    },
    "responses": {
        "a namespace with a long name": given_to(
            tools=[{"type": "namespace", "name": "N" * 100_000,
                    "tools": [{"type": "function", "name": "a"}] * 3000}]),
        "calls with one id": given_to(
            *[{"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}] * 4000),
        "tools added one by one": given_to(
            *[{"type": "additional_tools", "tools": [{"type": "function", "name": f"a{n}"}]} for n in range(4000)]),
        "many values in reasoning": given_to({"type": "reasoning", "encrypted_content": CARRIED}),
        "an allowed tool again and again": given_to(
            tools=[{"type": "function", "name": "f", "description": "d" * 100_000}],
            tool_choice={"type": "allowed_tools", "tools": [{"type": "function", "name": "f"}] * 3000}),
        "an unknown field with a long name": given_to(**{"k" * 500_000: 1}),
        "refused at its end": given_to(*[USER] * 5000, {"type": "unknown"}),
        "refused by the provider's format": given_to(*[USER] * 5000, top_logprobs=True),
    },
    "messages": {
        "calls with one id": asked(
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f"}] * 5000}, USER),
        "many values in a signature": asked(
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": SIGNED}]}, USER),
        "an unknown field with a long name": asked(**{"k" * 500_000: 1}),
        "refused at its end": asked(*[USER] * 5000, {"role": "unknown"}),
        "refused by the provider's format": asked(*[USER] * 5000, top_k=5),
    },
}  # fmt: skip


@cache
def accepted_cost(client: str, wire: str) -> Cost:
    return cost_of(short_texts(client, 300 * 1024), PARSERS[f"{client} to {wire}"], times=5)


@pytest.mark.parametrize(
    ("client", "wire", "name"),
    [(client, wire, name) for client, wire in TRANSLATIONS for name in HOSTILE_REQUESTS[client]],
)
def test_refused_translation_costs_no_more_than_an_accepted(client: str, wire: str, name: str) -> None:
    raw = short_texts(client, 300 * 1024)
    accepted = accepted_cost(client, wire)
    assert accepted.outcome == "accepted"
    require_cheap(HOSTILE_REQUESTS[client][name], PARSERS[f"{client} to {wire}"], accepted, len(raw))


@pytest.mark.parametrize("name", HOSTILE)
def test_refusal_costs_no_more_than_an_accepted_body(name: str, way: tuple[Callable[..., object], Cost, int]) -> None:
    parser, accepted, size = way
    raw = HOSTILE[name]
    assert len(raw) <= CAP
    require_cheap(raw, parser, accepted, size)


def require_cheap(raw: bytes, parser: Callable[..., object], accepted: Cost, size: int) -> None:
    """What else runs on a core makes its caches slow, so CPU time is measured again before it counts."""
    share = len(raw) / size
    allowed = CPU_MULTIPLE * accepted.seconds * share + FIXED_SECONDS
    cost = cost_of(raw, parser, times=2)
    for _ in range(5):
        if cost.seconds <= allowed:
            break
        cost = cost_of(raw, parser, times=3)
    assert cost.seconds <= allowed, (cost, accepted)
    # A parser reserves a multiple of the text before it knows what is in it; that memory is never touched.
    reserved = 13 * len(raw)
    assert cost.peak_bytes <= MEMORY_MULTIPLE * accepted.peak_bytes * share + reserved + FIXED_BYTES, (cost, accepted)


SCALARS = st.sampled_from(
    [b"0", b'""', b"null", b"{}", b"[]", b"1e5", rb'"\ud800"', b'"\\u0000"', b"NaN", b"9" * 25, b'"x"']
)
NAMES = st.sampled_from([b'"a"', b'"messages"', b'"content"', b'"role"', b'"' + KEY[:5000] + b'"', b'""'])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Any nesting of few kinds of things, each repeated up to a size."""
    inner = draw(SCALARS)
    for _ in range(draw(st.integers(1, 4))):
        times = draw(st.sampled_from([1, 3, 50, 2_000, 40_000]))
        room = max(1, 600_000 // (len(inner) + 16))
        if draw(st.booleans()):
            inner = b"[" + b",".join([inner] * min(times, room)) + b"]"
        else:
            name = draw(NAMES)
            room = max(1, 600_000 // (len(inner) + len(name) + 16))
            members = (name[:-1] + b"%d" % number + b'":' + inner for number in range(min(times, room)))
            inner = b"{" + b",".join(members) + b"}"
    return b'{"messages":' + inner + b"}"


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(raw=bodies())
def test_any_refusal_is_cheap(raw: bytes, way: tuple[Callable[..., object], Cost, int]) -> None:
    parser, accepted, size = way
    if cost_of(raw, parser, times=1).outcome != "accepted":
        require_cheap(raw, parser, accepted, size)


def test_loop_is_free_while_a_large_body_is_counted() -> None:
    """Another task gets to run after each part: no step of the count takes the whole body."""
    raw = b'{"prompt":"' + b"x" * (8 * MIB) + b'"}'

    async def turns() -> int:
        count = 0

        async def others() -> None:
            nonlocal count
            while True:
                count += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        await handle(raw, platform)
        task.cancel()
        return count

    with asyncio.Runner() as runner:
        assert runner.run(turns()) >= len(raw) // READ_BYTES


def test_hostile_bodies_are_what_they_seem() -> None:
    """Else the table would prove nothing: none of them is an accepted platform body."""
    with asyncio.Runner() as runner:
        for name in random.Random(7).sample(sorted(HOSTILE), len(HOSTILE)):
            assert runner.run(handle(HOSTILE[name], platform)) != "accepted", name
