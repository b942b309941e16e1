"""A route in miniature whose work runs under an Idempotency-Key."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from fastapi import Request
from starlette.responses import Response
from starlette.types import Message

from apps.platform_api.http.disconnect import DisconnectSignal
from apps.platform_api.http.idempotency.detached_work import DetachedWork
from apps.platform_api.http.idempotency.run_idempotent import run_idempotent
from apps.platform_api.http.streaming import EVENT_STREAM, open_byte_stream
from apps.platform_api.server.state import ServerState
from platform_app.auth.caller import Caller
from platform_app.errors import (
    PlatformError,
)
from platform_app.idempotency.in_flight import IdempotencyPolicy
from platform_app.idempotency.service import IdempotencyService
from platform_app.idempotency.stored_response import StoredResponse
from platform_app.llm.requests import ModelRequest
from platform_app.observability.context import RequestContext
from tests.support.fakes.core import context
from tests.support.fakes.memory_store import MemoryStore

POLICY = IdempotencyPolicy(keep_seconds=3600, max_bytes=1000)
CALLER: Any = SimpleNamespace(key_id="k" * 12, owner="team")
ASKED = ModelRequest("gpt-4o", {})
DONE = b"data: [DONE]\n\n"


class Client:
    """Reads what is sent; disconnects when `gone` is set, or while the chunk `leaves_at` is sent."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.leaves_at: bytes | None = None
        self.body = b""

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.leaves_at is not None and message.get("body") == self.leaves_at:
            self.gone.set()
            await asyncio.Event().wait()
        self.body += message.get("body", b"")


@dataclass
class Route:
    """A route in miniature, its store, and how often its work was done."""

    store: MemoryStore
    policy: IdempotencyPolicy = POLICY
    worked: int = 0
    admitted: list[str | None] = field(default_factory=list)
    """The models whose responses were to be given again."""
    refusal: PlatformError | None = None

    def __post_init__(self) -> None:
        self.keeper = IdempotencyService(self.store, self.policy)
        self.client = Client()
        self.server = ServerState()
        self.detached = DetachedWork(self.server, 8)
        self.context = context()

    async def ask(self, work: Any, *keys: str) -> Response:
        async def counted(client: DisconnectSignal) -> Response:
            self.worked += 1
            result = work if isinstance(work, Response | BaseException) else await work()
            if isinstance(result, BaseException):
                raise result
            assert isinstance(result, Response)
            return result

        self.context = context()
        scope = {
            "type": "http", "method": "POST", "path": "/x", "query_string": b"",
            "headers": [(b"idempotency-key", key.encode("latin-1")) for key in keys],
            "state": {
                "resources": SimpleNamespace(idempotency=self.keeper, chat=SimpleNamespace(admit_replay=self.admit)),
                "context": self.context,
                "detached": self.detached,
            },
        }  # fmt: skip
        request = Request(scope, self.client.receive)
        request._body = b"{}"
        caller: Caller = CALLER
        return await run_idempotent(request, caller, self.context, ASKED, counted)

    async def admit(self, asked: ModelRequest, caller: Caller, context: RequestContext) -> None:
        self.admitted.append(asked.model)
        if self.refusal is not None:
            raise self.refusal

    async def send(self, response: Response) -> None:
        await response({"type": "http"}, self.client.receive, self.client.send)

    @property
    def held(self) -> bool:
        return any(record.owner for record in self.store.records.values())

    @property
    def kept(self) -> list[StoredResponse]:
        return [StoredResponse.decode(record.response) for record in self.store.records.values() if record.response]


def events(*chunks: bytes | Exception) -> AsyncGenerator[bytes, None]:
    async def run() -> AsyncGenerator[bytes, None]:
        for chunk in chunks:
            await asyncio.sleep(0)
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    return run()


def streaming(route: Route, *chunks: bytes | Exception) -> Any:
    return lambda: open_byte_stream(events(*chunks), DisconnectSignal(), EVENT_STREAM)
