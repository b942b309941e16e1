"""A client disconnects: the provider call ends at once, and the log says why."""

import asyncio
import json
import time
from dataclasses import dataclass

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.support.gateway.http import Connection, access_line, chat_request, connect, metric, metric_becomes, until
from tests.support.gateway.process import Gateway

AT_ONCE_SECONDS = 5.0
"""It takes milliseconds. The bound is for a busy machine; a call that is not cancelled has another outcome than
`client_closed`, or none."""


@dataclass(frozen=True)
class Leave:
    """When in the response a client disconnects."""

    model: str
    stream: bool
    wait_for: bytes = b""
    """What the client reads before it disconnects."""


LEAVES = {
    "JSON, the provider is silent": Leave("sim-hang", False),
    "JSON, the provider is slow": Leave("sim-delay", False),
    "JSON, in the middle of the provider's body": Leave("sim-stream-hang", False),
    "JSON, the provider's body trickles": Leave("sim-slow-stream", False),
    "stream, before the provider's headers": Leave("sim-hang", True),
    "stream, before the first token": Leave("sim-slow-first-token", True),
    "stream, between two deltas": Leave("sim-slow-stream", True, b"event: delta"),
    "stream, the provider is silent": Leave("sim-stream-hang", True, b"event: delta"),
    "stream, while it pours": Leave("sim-huge-body", True, b"aaaa"),
}


@pytest.fixture
def sim(simulator: ProviderSimulator) -> ProviderSimulator:
    """The simulator, with its counts reset."""
    simulator.reset()
    return simulator


async def _begin(connection: Connection, sim: ProviderSimulator, chat_key: str, leave: Leave, request_id: str) -> None:
    """Send the request, and wait until the moment to disconnect."""
    body = {"prompt": "Hello", "model": leave.model, "stream": leave.stream}
    await connection.send(chat_request(chat_key, body, request_id))
    await sim.wait_for_outcome(leave.model, "open")
    if leave.wait_for:
        await connection.reader.readuntil(leave.wait_for)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("where", LEAVES)
async def test_disconnect_cancels_the_provider_call_at_once(
    gateway: Gateway, sim: ProviderSimulator, chat_key: str, where: str, how: str
) -> None:
    leave = LEAVES[where]
    request_id = f"leave-{list(LEAVES).index(where)}-{how}"
    labels = {"provider": "simulator", "model": leave.model, "outcome": "client_closed"}
    before = metric(gateway.metrics(), "platform_provider_requests_total", **labels)
    async with connect(gateway) as connection:
        await _begin(connection, sim, chat_key, leave, request_id)
        left_at = time.monotonic()
        if how == "close":
            connection.writer.close()
        else:
            connection.writer.transport.abort()
        record = await sim.wait_for_outcome(leave.model, "client_closed")

    assert record.ended is not None
    assert record.ended - left_at < AT_ONCE_SECONDS
    line = await access_line(gateway, request_id)
    assert (line["status"], line["reason"], line["model"]) == (499, "client_closed", leave.model)
    await metric_becomes(gateway, before + 1, "platform_provider_requests_total", **labels)
    assert [found["event"] for found in gateway.log_lines() if found.get("request_id") == request_id] == ["request"]


async def test_many_concurrent_disconnects_free_everything(
    gateway: Gateway, sim: ProviderSimulator, client: httpx.AsyncClient, chat_key: str
) -> None:
    async def visit(number: int) -> None:
        async with connect(gateway) as connection:
            leave = LEAVES["stream, between two deltas"]
            await _begin(connection, sim, chat_key, leave, f"many-{number}")

    await asyncio.gather(*(visit(number) for number in range(50)))
    await until(lambda: not sim.stats()["sim-slow-stream"]["open"], 60)
    assert sim.stats()["sim-slow-stream"]["client_closed"] == 50
    await metric_becomes(gateway, 0, "platform_http_requests_in_flight")
    headers = {"Authorization": f"Bearer {chat_key}"}
    assert (await client.post(gateway.chat_url, headers=headers, json={"prompt": "Hello"})).status_code == 200


async def test_disconnects_leave_other_clients_alone(
    gateway: Gateway, sim: ProviderSimulator, client: httpx.AsyncClient, chat_key: str
) -> None:
    headers = {"Authorization": f"Bearer {chat_key}"}
    ask = {"prompt": "tokens:6", "model": "sim-slow-stream", "stream": True}
    staying = asyncio.create_task(client.post(gateway.chat_url, headers=headers, json=ask))
    for number in range(5):
        async with connect(gateway) as connection:
            await _begin(connection, sim, chat_key, LEAVES["stream, between two deltas"], f"other-{number}")
    response = await staying
    assert response.text.rpartition("event: ")[2].startswith("done")


async def test_reused_connection_is_not_a_disconnect(gateway: Gateway, sim: ProviderSimulator, chat_key: str) -> None:
    """The watch for a disconnect does not consume later requests, pipelined ones included."""
    async with connect(gateway) as connection:
        first = chat_request(chat_key, {"prompt": "one", "model": "sim-slow-stream"}, "kept-1")
        await connection.send(first + chat_request(chat_key, {"prompt": "two"}, "kept-2"))
        for expected in ("You said: one", "You said: two"):
            status, _, body = await connection.answer()
            assert (status, json.loads(body)["output"]) == (200, expected)
        await connection.send(chat_request(chat_key, {"prompt": "three"}, "kept-3"))
        assert (await connection.answer())[0] == 200


async def test_client_that_closes_its_side_is_disconnected(
    gateway: Gateway, sim: ProviderSimulator, client: httpx.AsyncClient, chat_key: str
) -> None:
    """TCP distinguishes a half-closed connection from a closed one only at a write. Ending the call at once is worth
    more, so a half-closed connection ends like every other disconnect."""
    async with connect(gateway) as connection:
        await _begin(connection, sim, chat_key, LEAVES["JSON, the provider is silent"], "half-closed")
        left_at = time.monotonic()
        connection.writer.write_eof()
        record = await sim.wait_for_outcome("sim-hang", "client_closed")
        assert await connection.reader.read() == b""
    assert record.ended is not None
    assert record.ended - left_at < AT_ONCE_SECONDS
    line = await access_line(gateway, "half-closed")
    assert (line["status"], line["reason"]) == (499, "client_closed")
    assert [found["event"] for found in gateway.log_lines() if found.get("request_id") == "half-closed"] == ["request"]
    headers = {"Authorization": f"Bearer {chat_key}"}
    assert (await client.post(gateway.chat_url, headers=headers, json={"prompt": "Hello"})).status_code == 200
