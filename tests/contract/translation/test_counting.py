"""`/v1/messages/count_tokens` refuses what `/v1/messages` refuses, also where the gateway estimates."""

from typing import Any

import pytest

from tests.support.gateway.chat_routes import MESSAGES
from tests.support.gateway.in_process.gateway import WIRES, InProcessGateway

TURN = [{"role": "user", "content": "Hi"}]
REFUSED: dict[str, dict[str, Any]] = {
    "no messages": {"messages": []},
    "a message without a role": {"messages": [{"content": "Hi"}]},
    "tools of another type": {"messages": TURN, "tools": {"name": "a"}},
    "a negative limit": {"messages": TURN, "max_tokens": -1},
    "a limit of another type": {"messages": TURN, "max_tokens": "10"},
    "hosted tools": {"messages": TURN, "tools": [{"type": "web_search_20250305", "name": "web_search"}]},
}
REFUSED_BY_TRANSLATION: dict[str, dict[str, Any]] = {
    "a system prompt of another type": {"messages": TURN, "system": 7},
    "an unknown block": {"messages": [{"role": "user", "content": [{"type": "hologram"}]}]},
    "an unknown role": {"messages": [{"role": "boss", "content": "Hi"}]},
    "a result without its id": {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
    "a begun response": {"messages": [*TURN, {"role": "assistant", "content": "I"}]},
    "top_k": {"messages": TURN, "top_k": 4},
}


@pytest.mark.parametrize("wire", WIRES)
async def test_count_refuses_what_messages_refuses(wire: str) -> None:
    gateway = InProcessGateway(wire)
    for case, body in {**REFUSED, **({} if wire == "anthropic" else REFUSED_BY_TRANSLATION)}.items():
        messages = await gateway.ask(MESSAGES.path, {"max_tokens": 8, **body, "model": "m"}, None, MESSAGES.headers)
        counted = await gateway.ask(f"{MESSAGES.path}/count_tokens", {**body, "model": "m"}, None, MESSAGES.headers)
        assert (messages.status, counted.status) == (400, 400), (case, messages, counted)
        assert counted.json()["error"] == messages.json()["error"], case
    assert not gateway.provider.received


async def test_count_without_a_counting_provider_is_an_estimate() -> None:
    gateway = InProcessGateway("openai")
    reply = await gateway.ask(f"{MESSAGES.path}/count_tokens", {"model": "m", "messages": TURN}, None, MESSAGES.headers)
    assert (reply.status, reply.headers["x-platform-token-count"]) == (200, "estimate")
