"""Require the form of a refusal, and that the gateway still serves after it."""

from typing import Any

import httpx

from tests.support.gateway.process import Gateway

MIB = 1024 * 1024
JSON = "application/json"


def refusal(response: httpx.Response) -> tuple[int, str, list[str]]:
    """Status, code and details, once the shape is the platform's."""
    assert response.headers["content-type"] == JSON
    body = response.json()
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) in ({"code", "message", "request_id"}, {"code", "message", "request_id", "details"})
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["message"]
    details = error.get("details", [])
    assert all(isinstance(line, str) and line for line in details)
    return response.status_code, error["code"], details


async def still_works(client: httpx.AsyncClient, gateway: Gateway, headers: dict[str, str]) -> None:
    good = await client.post(gateway.chat_url, headers=headers, content=b'{"prompt": "Hello"}')
    assert (good.status_code, good.json()["output"]) == (200, "You said: Hello")


def tool(parameters: Any) -> dict[str, Any]:
    """A body with one tool of these parameters."""
    return {"prompt": "x", "tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}]}
