"""Requests with an Idempotency-Key, sent by one client."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway import chat_routes
from tests.support.gateway.process import Gateway

PLATFORM, OPENAI, EMBEDDINGS = "/v1/platform/chat", "/v1/chat/completions", "/v1/embeddings"
RESPONSES, MESSAGES = chat_routes.RESPONSES.path, chat_routes.MESSAGES.path

OUTCOMES = "platform_idempotency_total"

LEASE_SECONDS = 6.0


def request_body(route: str, text: str = "Hello", **more: Any) -> dict[str, Any]:
    match route:
        case "/v1/platform/chat":
            return {"prompt": text, **more}
        case "/v1/embeddings":
            return {"input": text, **more}
        case chat_routes.RESPONSES.path:
            return {"input": text, **more}
        case chat_routes.MESSAGES.path:
            return {"messages": [{"role": "user", "content": text}], "max_tokens": 1024, **more}
        case _:
            return {"messages": [{"role": "user", "content": text}], **more}


@dataclass(frozen=True)
class Caller:
    """Sends requests with an Idempotency-Key to one gateway."""

    client: httpx.AsyncClient
    gateway: Gateway
    key: str

    async def send(
        self, idempotency_key: str, route: str = PLATFORM, body: Mapping[str, Any] | None = None, **headers: str
    ) -> httpx.Response:
        return await self.client.post(
            f"{self.gateway.base_url}{route}",
            headers={
                "Authorization": f"Bearer {self.key}",
                "Content-Type": "application/json",
                "Idempotency-Key": idempotency_key,
                **headers,
            },
            content=json.dumps(request_body(route) if body is None else body),
        )

    def at(self, gateway: Gateway) -> "Caller":
        """The same caller at another gateway."""
        return Caller(self.client, gateway, self.key)


def provider_calls(sim: ProviderSimulator) -> int:
    return sum(counts["total"] for counts in sim.stats().values())


def error_code(response: httpx.Response) -> Any:
    error = response.json()["error"]
    return error["code"] if "code" in error else error["details"]["error_code"]


async def limited_caller(caller: Caller, platform: Platform, requests: int) -> Caller:
    """Another caller, that may send so many requests a minute."""
    made = await caller.client.post(
        f"{caller.gateway.base_url}/v1/platform/api-keys",
        headers={"Authorization": f"Bearer {platform.key('platform:*')}"},
        json={"name": "poor", "owner": "tests", "scopes": ["platform:chat"], "limits": {"key-rpm": requests}},
    )
    return Caller(caller.client, caller.gateway, made.json()["key"])


async def send_without_key(caller: Caller) -> None:
    headers = {"Authorization": f"Bearer {caller.key}"}
    response = await caller.client.post(caller.gateway.chat_url, headers=headers, json=request_body(PLATFORM))
    assert response.status_code == 200
