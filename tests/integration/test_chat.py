"""POST /v1/platform/chat over real sockets: what a client sees when all is well."""

import httpx
import pytest

from tests.support.gateway import Gateway


@pytest.fixture
def headers(chat_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {chat_key}"}


async def test_json_answer_has_every_documented_field(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    response = await client.post(gateway.chat_url, headers=headers, json={"prompt": "Hello", "conversation_id": "c1"})

    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {
        "status", "id", "request_id", "trace_id", "provider", "model", "output", "message", "finish_reason", "usage",
        "conversation_id", "duration_ms",
    }  # fmt: skip
    assert answer["output"] == "You said: Hello"
    assert answer["conversation_id"] == "c1"
    assert answer["request_id"] == response.headers["x-request-id"]
