"""Responses whose content was filtered (issue 11, kind 9)."""

import json

import pytest

from platform_app.errors import (
    ContentFiltered,
    ProviderBadResponse,
)
from platform_app.llm.http.transport.pool import ConnectionPool
from tests.support.providers.odd_responses import (
    A_MESSAGE,
    ANTHROPIC,
    DONE,
    JSON,
    OPENAI_SHAPED,
    ROLE,
    chunk,
    error_of,
    stream_of,
)
from tests.support.providers.wires import adapter_for, call, complete
from tests.support.servers.network.tcp import canned

NULL = {"index": 0, "message": None, "finish_reason": "content_filter"}
FILTERED_BODIES: dict[str, object] = {
    "null message": {"choices": [NULL]},
    "no message": {"choices": [{"index": 0, "finish_reason": "content_filter"}]},
    "no choice": {"choices": [], "finish_reason": "content_filter"},
    "null choices": {"choices": None, "finish_reason": "content_filter"},
    "gemini": {"choices": [{"index": 0, "finish_reason": "content_filter: PROHIBITED_CONTENT"}]},
    "gemini feedback": {"choices": [], "promptFeedback": {"blockReason": "SAFETY"}},
    "openrouter": {"choices": [{"message": None, "finish_reason": None, "native_finish_reason": "SAFETY"}]},
    "azure prompt": {
        "choices": [],
        "prompt_filter_results": [{"content_filter_results": {"hate": {"filtered": True, "severity": "high"}}}],
    },
    "azure choice": {"choices": [{"message": None, "content_filter_results": {"hate": {"filtered": True}}}]},
}


@OPENAI_SHAPED
@pytest.mark.parametrize("name", FILTERED_BODIES)
async def test_filtered_response_raises_content_filtered(pool: ConnectionPool, wire: str, name: str) -> None:
    """Kind 9: each place where a server reports its filter."""
    async with canned(JSON, json.dumps(FILTERED_BODIES[name]).encode()) as server:
        with pytest.raises(ContentFiltered):
            await complete(adapter_for(wire, pool, server.url), call())


@OPENAI_SHAPED
@pytest.mark.parametrize("name", ["no choice", "null choices", "gemini feedback", "azure prompt"])
async def test_filtered_stream_raises_content_filtered(pool: ConnectionPool, wire: str, name: str) -> None:
    """Kind 9: each place where a server reports its filter."""
    body = b"data: %b\n\n" % json.dumps(FILTERED_BODIES[name]).encode()
    assert type(await error_of(pool, wire, body + DONE)) is ContentFiltered
    assert type(await error_of(pool, wire, body)) is ContentFiltered


@OPENAI_SHAPED
async def test_filtered_choice_next_to_good_one_passes(pool: ConnectionPool, wire: str) -> None:
    good = {"index": 1, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    raw = json.dumps({"choices": [NULL, good]}).encode()
    async with canned(JSON, raw) as server:
        done = await complete(adapter_for(wire, pool, server.url), call())
    assert (done.raw, done.message) == (raw, {})


@OPENAI_SHAPED
@pytest.mark.parametrize("reason", ["content_filter", "stop"])
async def test_finish_without_content_passes_unchanged(pool: ConnectionPool, wire: str, reason: str) -> None:
    """A finish_reason is enough: the stream is complete."""
    chunks = await stream_of(pool, wire, ROLE + chunk({}, reason) + DONE)
    assert [each.finish_reason for each in chunks] == [None, reason]


@OPENAI_SHAPED
async def test_empty_unfiltered_response_raises_bad_response(pool: ConnectionPool, wire: str) -> None:
    bodies: list[object] = [{"choices": [{**NULL, "finish_reason": None}]}, {"choices": []}, {"choices": [None]}]
    for body in bodies:
        async with canned(JSON, json.dumps(body).encode()) as server:
            with pytest.raises(ProviderBadResponse):
                await complete(adapter_for(wire, pool, server.url), call())


@ANTHROPIC
async def test_refusal_without_content_raises_content_filtered(pool: ConnectionPool, wire: str) -> None:
    """Kind 9. A refusal with content passes, with the finish_reason content_filter."""
    odd: list[object] = [None, {}, "x"]
    for content in odd:
        body = {**A_MESSAGE, "content": content, "stop_reason": "refusal"}
        async with canned(JSON, json.dumps(body).encode()) as server:
            with pytest.raises(ContentFiltered):
                await complete(adapter_for(wire, pool, server.url), call())
    async with canned(JSON, json.dumps({**A_MESSAGE, "content": [], "stop_reason": "refusal"}).encode()) as server:
        done = await complete(adapter_for(wire, pool, server.url), call())
    assert done.finish_reason == "content_filter"
