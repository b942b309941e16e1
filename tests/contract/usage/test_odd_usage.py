"""Impossible counts over every wire format: what is recorded and charged (issue 11, kinds 1 and 2)."""

from typing import Any

import pytest

from apps.provider_simulator.faults.odd_usage import ABSENT, SHAPES
from platform_app.llm.interfaces import ModelAdapter
from platform_app.llm.requests import Operation
from platform_app.llm.usage.settlement import CallFacts, SettledUsage, settle_usage
from platform_app.llm.usage.token_estimate import estimate_prompt_tokens, estimate_text_tokens
from tests.support.providers.wires import call, complete, open_stream

TEXT = "You said: Hello"
GUESS_OUT = estimate_text_tokens(len(TEXT))
GUESS_IN = estimate_prompt_tokens(call().body)
RIGHT_IN = 2
"""The simulator's counts, also in the first event of Anthropic's stream."""
NUMBERED = [pytest.param(number, id=f"{number}") for number in range(len(SHAPES))]


async def settled(adapter: ModelAdapter, number: int, *, streams: bool, **fields: Any) -> SettledUsage:
    asked = call(f"sim-odd-usage-{number}", streams=streams, **fields)
    facts = (asked.body, GUESS_IN, asked.operation is Operation.CHAT)
    if not streams:
        done = await complete(adapter, asked)
        return settle_usage(done.usage, CallFacts(*facts, done.characters))
    stream = await open_stream(adapter, asked)
    async for _ in stream:
        pass
    return settle_usage(stream.usage, CallFacts(*facts, stream.characters, stream.counted_all(None)))


def expected(shape: object, known_input: int, known_output: int) -> tuple[int, int, bool]:
    """Input and output tokens, and whether one of them is an estimate."""
    given, made = shape if isinstance(shape, tuple) else (None, None)
    counts = [int(count) if count in (25, 500.0, 400.0) else 0 for count in (given, made)]
    prompt, completion = counts[0] or known_input, counts[1] or known_output
    return prompt or GUESS_IN, completion or GUESS_OUT, not (prompt and completion)


@pytest.mark.parametrize("number", NUMBERED)
async def test_odd_usage_of_a_response_is_settled(adapter: ModelAdapter, number: int) -> None:
    found = await settled(adapter, number, streams=False)
    usage = found.usage
    assert (usage.prompt_tokens, usage.completion_tokens, found.estimated) == expected(SHAPES[number], 0, 0)


@pytest.mark.parametrize("number", NUMBERED)
async def test_odd_usage_of_a_stream_is_settled(adapter: ModelAdapter, wire: str, number: int) -> None:
    """Anthropic's first event counts the input, and no later event removes the count."""
    found = await settled(adapter, number, streams=True)
    usage = found.usage
    known = RIGHT_IN if wire == "anthropic" and SHAPES[number] != (100_000_000, 100_000_000) else 0
    assert (usage.prompt_tokens, usage.completion_tokens, found.estimated) == expected(SHAPES[number], known, 0)


@pytest.mark.parametrize("wire", ["openai", "azure"], indirect=True)
@pytest.mark.parametrize("number", NUMBERED)
async def test_odd_usage_of_embeddings_is_settled(adapter: ModelAdapter, number: int) -> None:
    found = await settled(adapter, number, streams=False, operation=Operation.EMBEDDINGS, input="Hello")
    assert 0 < found.usage.prompt_tokens <= 500
    assert found.usage.completion_tokens == 0


def test_shapes_cover_every_kind() -> None:
    """The list of the tests above contains every fault that was seen."""
    assert {(0, 0), (500.0, 400.0), (10**19, 10**19), (2**63, 2**63)} <= {
        each for each in SHAPES if type(each) is tuple
    }
    assert ABSENT in SHAPES
