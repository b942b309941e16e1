"""Requests to the simulator, and their results."""

from collections.abc import AsyncIterable
from typing import Any, TypeVar

import httpx
import orjson

T = TypeVar("T")
KEY = "sk-simulated-0123456789abcdef"
AUTH = {"Authorization": f"Bearer {KEY}"}


def chat(model: str = "sim-ok", text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


async def ask(client: httpx.AsyncClient, model: str = "sim-ok", text: str = "hello", **fields: Any) -> httpx.Response:
    return await client.post("/chat/completions", json=chat(model, text, **fields))


def data_lines(body: str) -> list[str]:
    """Return the data of every complete server-sent event."""
    return [event.removeprefix("data: ") for event in body.split("\n\n")[:-1]]


async def collect(parts: AsyncIterable[T], into: list[T]) -> None:
    """Keep what arrived, although reading the rest fails."""
    async for part in parts:
        into.append(part)  # noqa: PERF401 - what a comprehension gathered would be lost when reading fails


def raw_request(body: dict[str, Any]) -> bytes:
    content = orjson.dumps(body)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: "
    return f"{head}{len(content)}\r\n\r\n".encode() + content
