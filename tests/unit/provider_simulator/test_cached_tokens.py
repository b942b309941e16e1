"""A model `cached-…` counts what it has had before, in each format."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import pytest

from apps.provider_simulator.formats.anthropic_responses import MessageAnswer
from apps.provider_simulator.formats.openai_chat import ChatAnswer
from apps.provider_simulator.formats.responses.response import ResponsesAnswer
from apps.provider_simulator.formats.responses.store import ResponseStore

FIRST = {"role": "user", "content": "A question of some length."}
LATER = [FIRST, {"role": "assistant", "content": "You said."}, {"role": "user", "content": "And now?"}]


def chat(turns: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    usage = orjson.loads(ChatAnswer({"model": "cached-chat", "messages": turns}, 1, 1).json())["usage"]
    return usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]


def responses(turns: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    body = {"model": "cached-responses", "input": turns, "store": False}
    usage = orjson.loads(ResponsesAnswer(body, 1, 1, ResponseStore()).json())["usage"]
    return usage["input_tokens_details"]["cached_tokens"], usage["input_tokens"]


def messages(turns: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    body = {"model": "cached-messages", "messages": turns, "max_tokens": 50}
    usage = orjson.loads(MessageAnswer(body, 1).json())["usage"]
    return usage["cache_read_input_tokens"], usage["cache_read_input_tokens"] + usage["input_tokens"]


@pytest.mark.parametrize("ask", [chat, responses, messages])
def test_cached_model_counts_the_turns_it_had_before(
    ask: Callable[[Sequence[Mapping[str, Any]]], tuple[int, int]],
) -> None:
    cached, prompt = ask([FIRST])
    assert (cached, prompt > 0) == (0, True)
    assert ask(LATER)[0] == prompt
    cached, prompt = ask(LATER)
    assert cached == prompt


def test_marked_request_writes_the_rest_to_the_cache() -> None:
    body = {
        "model": "cached-marked", "messages": [FIRST], "max_tokens": 50, "cache_control": {"type": "ephemeral"},
    }  # fmt: skip
    first, second = (orjson.loads(MessageAnswer(body, number).json())["usage"] for number in (1, 2))
    assert first["input_tokens"] == second["input_tokens"] == 0
    assert first["cache_creation_input_tokens"] == second["cache_read_input_tokens"] > 0
