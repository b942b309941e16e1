"""Connections of clients that come while a gateway stops: a response or a refused connection, and no reset."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import httpx

from tests.conftest import Platform
from tests.support.gateway.http import chat_request, until
from tests.support.gateway.process import Gateway

REFUSED = "refused"


async def result_of(gateway: Gateway, request: bytes) -> str:
    """Send a request on a new connection. Return the status, or that the port is closed."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    except ConnectionRefusedError:
        return REFUSED
    try:
        writer.write(request)
        return (await reader.readuntil(b"\r\n")).decode().split()[1]
    finally:
        writer.transport.abort()


async def test_port_closes_while_streams_finish(
    platform: Platform, client: httpx.AsyncClient, chat_key: str, tmp_path: Path
) -> None:
    """The stream ends only after the port closed: until then each connection gets a response."""
    headers = {"Authorization": f"Bearer {chat_key}"}
    settings = {"PLATFORM_SHUTDOWN_DRAIN_SECONDS": "0.5", "PLATFORM_SHUTDOWN_GRACE_SECONDS": "250"}
    request = chat_request(chat_key, {"prompt": "hello", "model": "sim-ok"}, "last-connection")
    with Gateway({**platform.environment, **settings}, tmp_path, workers=2) as gateway:
        assert gateway.child is not None
        body = {"prompt": "tokens:4000", "model": "sim-slow-stream", "stream": True}
        async with client.stream("POST", gateway.chat_url, headers=headers, json=body) as response:
            chunks = response.aiter_bytes()
            await anext(chunks)
            gateway.child.send(signal.SIGTERM)
            results: Counter[str] = Counter()
            async with asyncio.timeout(200):
                while not results[REFUSED]:
                    results[await result_of(gateway, request)] += 1
                    await asyncio.sleep(0.02)
            assert results.keys() <= {"200", "503", REFUSED}
            assert results["503"]
            await anext(chunks)
        await until(lambda: gateway.child is not None and gateway.child.poll() is not None)
        assert gateway.child.poll() == 0
