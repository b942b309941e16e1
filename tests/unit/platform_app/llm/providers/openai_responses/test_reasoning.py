"""Which reasoning items of a Responses request reach a provider that encrypts its own."""

from typing import Any

import pytest

from platform_app.llm.providers.openai_responses.reasoning import own_reasoning
from platform_app.llm.translation.carried import carry_thinking

USER = {"role": "user", "content": "Hi."}
SEALED = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
CARRIED = {**SEALED, "encrypted_content": carry_thinking([{"type": "thinking"}])}
BARE = {"type": "reasoning", "id": "rs_theirs", "summary": [{"type": "summary_text", "text": "I thought."}]}
OPEN = {**BARE, "content": [{"type": "reasoning_text", "text": "I thought."}]}


def _sent(*items: Any, **fields: Any) -> Any:
    return own_reasoning({"input": list(items), **fields})["input"]


@pytest.mark.parametrize("sealed", [None, "", {}])
def test_stateless_request_names_no_stored_reasoning(sealed: object) -> None:
    """An id without encrypted content could name the reasoning of another client."""
    assert _sent(USER, {**BARE, "encrypted_content": sealed}, USER, store=False) == [USER, USER]


def test_open_reasoning_is_sent_under_another_id() -> None:
    assert _sent(USER, OPEN) == [USER, {**OPEN, "id": "rs_1"}]


@pytest.mark.parametrize("fields", [{}, {"store": False}, {"store": True}, {"previous_response_id": "resp_1"}])
def test_encrypted_reasoning_passes_unchanged(fields: dict[str, Any]) -> None:
    assert _sent(SEALED, CARRIED, USER, **fields) == [SEALED, USER]


@pytest.mark.parametrize("fields", [{"store": True}, {"previous_response_id": "resp_1"}])
def test_stored_conversation_may_name_its_reasoning(fields: dict[str, Any]) -> None:
    assert _sent(BARE, OPEN, USER, **fields) == [BARE, OPEN, USER]


@pytest.mark.parametrize("body", [{"input": "Hi."}, {"input": [USER]}, {}])
def test_request_without_reasoning_is_the_same_object(body: dict[str, Any]) -> None:
    assert own_reasoning(body) is body
