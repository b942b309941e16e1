"""The first fields of a chat completion that is made of a Response."""

import pytest

from platform_app.llm.providers.openai_responses.chat.response import envelope


@pytest.mark.parametrize(
    ("given", "created"),
    [
        (1764288000, 1764288000), (1764288000.7, 1764288000), (-1, 0), (10**400, 0), (float("inf"), 0),
        (float("nan"), 0), ("soon", 0), (None, 0),
    ],
)  # fmt: skip
def test_time_of_a_response_is_a_time_or_0(given: object, created: int) -> None:
    assert envelope({"created_at": given}, "chat.completion")["created"] == created
