"""Requests leave no reference cycles: what they held is free when they end, not at the next garbage collection.

A cycle that holds a connection also holds what the client did not read: slow readers then take memory by the megabyte.
"""

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
import pytest
import uvicorn

from apps.platform_api.server.state import ServerState
from apps.platform_api.server.worker import uvicorn_config
from platform_app.config import load_settings
from tests.conftest import Platform

OURS = ("apps.", "platform_app.")
REQUESTS = 5


@pytest.fixture(scope="module")
async def address(platform: Platform) -> AsyncIterator[tuple[str, int]]:
    """A gateway in this process, whose garbage can be looked at."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in platform.environment.items():
            patch.setenv(name, value)
        async with gateway_in_this_process() as address:
            yield address


@asynccontextmanager
async def gateway_in_this_process() -> AsyncIterator[tuple[str, int]]:
    """Run a worker's server on a free port."""
    settings, state = load_settings(), ServerState()
    server = uvicorn.Server(uvicorn_config(settings, state))
    state.tasks = server.server_state.tasks
    listening = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server._serve([listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield listening.getsockname()
    server.should_exit = True
    await serving
    listening.close()


@contextmanager
def no_garbage_of_ours() -> Iterator[None]:
    """Fail if the block leaves an object of ours that only the garbage collector can free."""
    gc.collect()
    gc.freeze()  # what is there now need not be searched
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        left = sorted({type(each).__qualname__ for each in gc.garbage if type(each).__module__.startswith(OURS)})
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()
    assert left == []


async def settle() -> None:
    """Let connections end and tasks return."""
    for _ in range(20):
        await asyncio.sleep(0.02)


CHAT = {"prompt": "hello"}
COMPLETION = {"model": "sim-ok", "messages": [{"role": "user", "content": "x"}]}
KINDS = {
    "chat": ("/v1/platform/chat", CHAT, {}),
    "chat stream": ("/v1/platform/chat", CHAT | {"stream": True}, {}),
    "completion": ("/v1/chat/completions", COMPLETION, {}),
    "completion stream": ("/v1/chat/completions", COMPLETION | {"stream": True}, {}),
    "embeddings": ("/v1/embeddings", {"model": "sim-ok", "input": "x"}, {}),
    "idempotent": ("/v1/chat/completions", COMPLETION, {"idempotency-key": "cycles-{}"}),
    "idempotent stream": ("/v1/chat/completions", COMPLETION | {"stream": True}, {"idempotency-key": "cycles-s-{}"}),
    "replay": ("/v1/chat/completions", COMPLETION, {"idempotency-key": "cycles-once"}),
    "refused body": ("/v1/platform/chat", CHAT | {"nonsense": 1}, {}),
    "unknown model": ("/v1/chat/completions", COMPLETION | {"model": "gone"}, {}),
    "provider fails": ("/v1/chat/completions", COMPLETION | {"model": "sim-server-error"}, {}),
    "provider refuses": ("/v1/chat/completions", COMPLETION | {"model": "sim-bad-request"}, {}),
    "provider disconnects": ("/v1/chat/completions", COMPLETION | {"model": "sim-drop-mid-body"}, {}),
    "stream is cut": ("/v1/chat/completions", COMPLETION | {"model": "sim-stream-drop", "stream": True}, {}),
    "response": ("/v1/responses", {"model": "sim-ok", "input": "x"}, {}),
    "response stream": ("/v1/responses", {"model": "sim-ok", "input": "x", "stream": True}, {}),
    "message": ("/v1/messages", COMPLETION | {"max_tokens": 9}, {}),
    "message stream": ("/v1/messages", COMPLETION | {"max_tokens": 9, "stream": True}, {}),
    "chat stream is cut": ("/v1/platform/chat", CHAT | {"model": "sim-stream-drop", "stream": True}, {}),
    "response is cut": ("/v1/responses", {"model": "sim-stream-drop", "input": "x", "stream": True}, {}),
    "message is cut": ("/v1/messages", COMPLETION | {"model": "sim-stream-drop", "max_tokens": 9, "stream": True}, {}),
    "idempotent request fails": (
        "/v1/chat/completions",
        COMPLETION | {"model": "sim-bad-request"},
        {"idempotency-key": "cycles-f-{}"},
    ),
    "unknown path": ("/v1/nothing", {}, {}),
    "wrong key": ("/v1/chat/completions", COMPLETION, {"authorization": "Bearer wrong-{}"}),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_request_leaves_no_reference_cycle(platform: Platform, address: tuple[str, int], kind: str) -> None:
    path, body, headers = KINDS[kind]
    authorization = {"authorization": f"Bearer {platform.key('platform:chat', 'platform:embeddings')}"}

    async def requests(first: int) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{address[1]}", headers=authorization) as client:
            for number in range(first, first + REQUESTS):
                filled = {name: value.format(number) for name, value in headers.items()}
                await client.post(path, json=body, headers=filled, timeout=60)

    await requests(0)  # caches, pools and scripts are there
    await settle()
    with no_garbage_of_ours():
        await requests(REQUESTS)
        await settle()


async def test_disconnect_leaves_no_reference_cycle(platform: Platform, address: tuple[str, int]) -> None:
    key = platform.key("platform:chat")
    body = json.dumps({"prompt": "tokens:500", "stream": True})
    request = (
        f"POST /v1/platform/chat HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()

    async def leave() -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request)
        await reader.readexactly(16)
        writer.transport.abort()

    await leave()
    await settle()
    with no_garbage_of_ours():
        for _ in range(REQUESTS):
            await leave()
        await settle()
