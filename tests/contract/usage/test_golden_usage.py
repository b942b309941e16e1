"""The golden set: usage as providers send it, with the tokens and the cost of each (issue 11, kind 3).

Each shape of `golden_usage.json` is sent by a server, read by the adapter of its wire format, and recorded by the
service, as JSON or as a stream. The table in docs/billing.md comes from the same file.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from platform_app.auth.caller import Caller
from platform_app.chat import ChatService
from platform_app.config import PriceConfig
from platform_app.errors import PlatformError
from platform_app.ledger.events.event import decode
from platform_app.ledger.events.usage_record import UsageRecord
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.models.provider_route import ProviderRoute
from platform_app.llm.models.registry import ModelRegistry, ServedModel
from platform_app.llm.models.route import Route
from platform_app.llm.requests import ModelRequest, Operation
from platform_app.llm.usage.pricing import configured_price
from platform_app.rate_limit.matching import RuleBook
from platform_app.rate_limit.service import RateLimitService
from tests.support.fakes.core import FakeLedger, FakeLimiter, context
from tests.support.paths import ROOT
from tests.support.providers.wires import KEY, adapter_for
from tests.support.servers.network.tcp import canned

GOLDEN: Mapping[str, Any] = json.loads(Path(__file__).with_name("golden_usage.json").read_text(encoding="utf-8"))
SHAPES: list[dict[str, Any]] = GOLDEN["shapes"]
DOCUMENT = ROOT / "docs" / "billing.md"
BEGIN, END = (
    "<!-- golden set: made by tests/contract/usage/test_golden_usage.py -->\n",
    "<!-- end of the golden set -->\n",
)
PRICE = configured_price(PriceConfig.model_validate(GOLDEN["price"]))
CALLER = Caller("k" * 12, "golden", "team-a", "test", frozenset({"platform:chat"}))
RESPONSE = {"id": "r1", "object": "response", "created_at": 1, "model": "up", "status": "completed", "output": []}
ENVELOPE = {"id": "c1", "object": "chat.completion", "created": 1, "model": "up"}


class Credentials:
    async def get(self, name: str) -> str:
        return KEY

    async def refresh(self, name: str, rejected: str) -> str:
        return rejected


def body_of(shape: Mapping[str, Any]) -> bytes:
    """Return the whole response of a shape that has no stream."""
    sent = dict(shape["sent"])
    raw = sent.pop("raw_usage", None)
    content = sent.pop("content", GOLDEN["text"])
    if raw is not None:
        sent["usage"] = "RAW"
    if shape["mode"] == "embeddings":
        vectors = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        made: dict[str, Any] = {"object": "list", "model": "up", "data": vectors, **sent}
    elif shape["wire"] == "anthropic":
        made = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "up", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": content}], **sent,
        }  # fmt: skip
    elif shape["wire"] == "openai-responses":
        made = {**RESPONSE, "output": [message_item(content)], **sent}
    else:
        message = {"role": "assistant", "content": content}
        made = {**ENVELOPE, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **sent}
    return json.dumps(made).replace('"RAW"', raw or "").encode()


def events_of(shape: Mapping[str, Any]) -> Iterator[bytes]:
    """Return the events of a stream, in the short form of the file."""
    if shape["wire"] == "openai-responses":
        yield from responses_events(shape["sent"])
        return
    openai = shape["wire"] != "anthropic"
    if openai:
        yield from chunk({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    for event in shape["sent"]:
        if event == "cut":
            return
        yield from openai_event(event) if openai else anthropic_event(event)
    if openai:
        yield b"data: [DONE]\n\n"


def message_item(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def responses_events(sent: Sequence[str | Mapping[str, Any]]) -> Iterator[bytes]:
    def named(kind: str, **fields: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()

    yield named("response.created", response={**RESPONSE, "status": "in_progress", "usage": None})
    for event in sent:
        if event == "text":
            yield named("response.output_text.delta", output_index=0, content_index=0, delta=GOLDEN["text"])
        elif isinstance(event, Mapping):
            yield named("response.completed", response={**RESPONSE, "output": [message_item(GOLDEN["text"])], **event})


def chunk(made: Mapping[str, Any]) -> Iterator[bytes]:
    yield b"data: " + json.dumps({**ENVELOPE, "object": "chat.completion.chunk", **made}).encode() + b"\n\n"


def openai_event(event: str | Mapping[str, Any]) -> Iterator[bytes]:
    named: dict[str, Any] = {"text": {"say": GOLDEN["text"]}, "end": {"end": True}}
    made = dict(named[event] if isinstance(event, str) else event)
    choice: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": None}
    if "say" in made:
        choice["delta"] = {"content": made.pop("say")}
    if made.pop("end", False):
        choice["finish_reason"] = "stop"
    choice |= made.pop("choice", {})
    yield from chunk({"choices": [choice], **made})


def anthropic_event(event: str | Mapping[str, Any]) -> Iterator[bytes]:
    def named(kind: str, **fields: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()

    if event == "text":
        yield named("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield named("content_block_delta", index=0, delta={"type": "text_delta", "text": GOLDEN["text"]})
        yield named("content_block_stop", index=0)
    elif event == "stop":
        yield named("message_stop")
    else:
        assert isinstance(event, Mapping)
        if "start" in event:
            message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "up", "content": []}
            yield named("message_start", message={**message, "usage": event["start"]})
        else:
            yield named("message_delta", delta={"stop_reason": "end_turn"}, usage=event["delta"])


async def recorded(shape: Mapping[str, Any]) -> UsageRecord:
    """Let the service make the call, and return what it recorded."""
    streams = shape["mode"] == "stream"
    parts = list(events_of(shape)) if streams else [body_of(shape)]
    server = canned(b"text/event-stream" if streams else b"application/json", *parts)
    pool, ledger = ConnectionPool(4), FakeLedger()
    async with server:
        adapter = adapter_for(shape["wire"], pool, server.url)
        route = Route("m", shape["wire"], "up", "KEY", price=PRICE if shape.get("priced", True) else None)
        models = {"m": ServedModel("m", (route,), ProviderRoute(route, adapter, Credentials()))}
        gate = RateLimitService(RuleBook([]), FakeLimiter())
        chat = ChatService(ModelRegistry(models, "m"), gate, ledger, 60.0)
        try:
            await drive(chat, shape)
        finally:
            await pool.aclose()
    [record] = ledger.events
    assert isinstance(record, UsageRecord)
    assert decode(record.line()) == record
    return record


async def drive(chat: ChatService, shape: Mapping[str, Any]) -> None:
    operation, body = Operation.CHAT, {"messages": [{"role": "user", "content": GOLDEN["prompt"]}]}
    if shape["mode"] == "embeddings":
        operation, asked = Operation.EMBEDDINGS, {"input": GOLDEN["prompt"]}
    else:
        asked = {**body, "max_tokens": GOLDEN["max_tokens"]}
    request = ModelRequest("m", asked, operation, shape["mode"] == "stream")
    answer = (await chat.send(request, CALLER, context())).response
    if isinstance(answer, ChunkStream):
        cut = shape["sent"][-1] == "cut"
        try:
            async for _ in answer:
                pass
            assert not cut, "a stream that is cut fails"
        except PlatformError:
            assert cut
        finally:
            await answer.aclose()


@pytest.mark.parametrize("shape", [pytest.param(each, id=f"{each['name']}-{each['mode']}") for each in SHAPES])
async def test_golden_usage_is_recorded(shape: dict[str, Any]) -> None:
    record = await recorded(shape)
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (
        shape["input"], shape["cached"], shape["output"],
    )  # fmt: skip
    assert record.estimated is shape["estimated"]
    assert record.cost_microusd == shape["microusd"]


def test_golden_costs_match_golden_tokens() -> None:
    """Compute the cost independently, so that a wrong price does not confirm itself."""
    price = {name.removesuffix("_usd_per_million"): value for name, value in GOLDEN["price"].items()}
    for shape in SHAPES:
        if not shape.get("priced", True):
            continue
        plain = shape["input"] - shape["cached"] - shape["written"]
        exact = plain * price["input"] + shape["cached"] * price["cached_input"] + shape["output"] * price["output"]
        exact += (shape["written"] - shape["written_1h"]) * price["cache_write"]
        exact += shape["written_1h"] * price["cache_write_1h"]
        assert exact - 1e-6 <= shape["microusd"] < exact + 1, shape["name"]


async def test_raw_counts_are_stored_with_settled_counts() -> None:
    """Raw counts are stored unchanged, also if they are not used or the format is not OpenAI's."""
    by_name = {(each["name"], each["mode"]): each for each in SHAPES}
    for name, mode, kept in (
        ("OpenAI", "json", {"prompt_tokens": 19, "completion_tokens": 17, "total_tokens": 36}),
        ("Zeros", "json", {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
        ("10^19", "json", dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 10**19)),
        ("Texts", "json", {"prompt_tokens": "19", "completion_tokens": "17", "total_tokens": "36"}),
        ("NaN", "json", {"prompt_tokens": None, "completion_tokens": 17, "total_tokens": None}),
        ("llama.cpp, timings alone", "json", {"cache_n": 10, "prompt_n": 9, "predicted_n": 17}),
        ("Usage is missing", "json", None),
        ("Moonshot, usage inside the choice", "stream", by_name["Moonshot", "json"]["sent"]["usage"]),
        ("Anthropic, written for an hour", "json", by_name["Anthropic, written for an hour", "json"]["sent"]["usage"]),
        (
            "Anthropic, zeros of the input last", "stream",
            {"input_tokens": 19, "cache_read_input_tokens": 80, "output_tokens": 17, "cache_creation_input_tokens": 0},
        ),
    ):  # fmt: skip
        found = (await recorded(by_name[name, mode])).provider_usage
        assert (None if found is None else json.loads(found)) == kept, name


def test_golden_set_covers_every_case() -> None:
    """There are at least sixty shapes, each format as JSON and as a stream, and every provider that the issue names."""
    assert len(SHAPES) >= 60
    assert {(each["wire"], each["mode"]) for each in SHAPES} >= {
        (wire, mode) for wire in ("openai", "openai-responses", "azure", "anthropic") for mode in ("json", "stream")
    }
    names = " ".join(each["name"] for each in SHAPES)
    for provider in (
        "OpenAI", "Azure", "Anthropic", "DeepSeek", "Mistral", "Groq", "OpenRouter", "Moonshot", "vLLM", "llama.cpp",
        "server tools", "for an hour", "five minutes", "thinking", "cut before", "Usage twice",
    ):  # fmt: skip
        assert provider in names


def table() -> str:
    """Return the golden set as docs/billing.md shows it."""
    rows = [
        "| What is sent | Format | Input | of it cached | Output | Estimated | Cost |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in SHAPES:
        cost = "none is known" if each["microusd"] is None else f"{each['microusd']:,}"
        form = f"{each['wire']}, {each['mode']}"
        marks = "yes" if each["estimated"] else ""
        cells = (each["name"], form, each["input"], each["cached"] or "", each["output"], marks, cost)
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def test_billing_page_shows_the_golden_set() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert BEGIN in text, "docs/billing.md lacks the markers of the golden set"
    shown = text.partition(BEGIN)[2].partition(END)[0]
    assert shown == table(), (
        "docs/billing.md is stale; write the table again with:\npython -m tests.contract.usage.test_golden_usage"
    )


def write_table() -> None:
    """Write the table into docs/billing.md."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    DOCUMENT.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    write_table()
