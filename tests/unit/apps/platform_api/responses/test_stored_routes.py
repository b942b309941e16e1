"""Reading and deleting stored responses: the call to the provider ends with the client's connection."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import Request

from apps.platform_api.http.disconnect import ClientDisconnected, DisconnectSignal
from apps.platform_api.responses.stored.ids import StoredId, owner_digest, sign_id
from apps.platform_api.responses.stored.routes import delete_response, read_response
from platform_app.auth.pepper import Peppers
from platform_app.llm.models.registry import ServedModel
from platform_app.llm.models.route import Route
from tests.support.fakes.core import FakeUpstream
from tests.support.gateway.in_process.gateway import CALLER

PEPPERS = Peppers({1: b"p" * 32}, 1)
ROUTE = Route("m", "p", "up")


class HangingRoute:
    """A route whose provider sends no response."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = False

    async def read(self, response_id: str, timeout_seconds: float) -> bytes | None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return None

    delete = read


class _Peppers:
    async def current(self) -> Peppers:
        return PEPPERS


@pytest.mark.parametrize("handler", [read_response, delete_response])
async def test_call_is_cancelled_when_the_client_disconnects(handler: Any) -> None:
    route: Any = HangingRoute()
    model = ServedModel("m", (ROUTE,), FakeUpstream(ROUTE), stored={("p", "up"): route})
    resources = SimpleNamespace(
        peppers=_Peppers(),
        models=SimpleNamespace(find=lambda name: model),
        chat=SimpleNamespace(deadline_seconds=60.0),
    )
    signed = sign_id(StoredId(owner_digest(CALLER.owner), "m", "p", "up", "resp_1"), PEPPERS)
    client = DisconnectSignal()
    request = Request({"type": "http", "extensions": client.extension()})
    work = asyncio.create_task(handler(signed, request, CALLER, SimpleNamespace(), resources))
    await route.begun.wait()
    client.set()
    with pytest.raises(ClientDisconnected):
        await work
    assert route.cancelled
