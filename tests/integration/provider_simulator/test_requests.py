"""What the simulator notices and counts: clients that leave, records, its admin routes."""

import asyncio
import socket
import struct
import time

import httpx
import orjson
import pytest

from apps.provider_simulator.record import KEPT_BODIES, KEPT_BODY_BYTES, KEPT_RECORDS, credential_digest
from apps.provider_simulator.server import ProviderSimulator
from tests.support.providers.simulator_requests import AUTH, KEY, ask, chat, raw_request

AT_ONCE_SECONDS = 10.0
"""It takes milliseconds. The bound is for a busy machine, and a sixth of what the models wait."""

# --- a client that leaves


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize(
    ("model", "stream"),
    [
        ("sim-delay-60000", False),
        ("sim-delay-60000", True),
        ("sim-slow-first-token-60000", True),
        ("sim-slow-stream-60000", True),
        ("sim-slow-stream-60000", False),
        ("sim-slow-stream-1", True),
        ("sim-stream-hang", True),
        ("sim-stream-hang", False),
        ("sim-hang", False),
        ("sim-hang", True),
        ("sim-huge-body", False),
        ("sim-huge-body", True),
        ("sim-huge-line", True),
    ],
)
async def test_disconnecting_client_is_noticed_at_once(
    sim: ProviderSimulator, model: str, stream: bool, reset: bool
) -> None:
    connection = socket.create_connection(("127.0.0.1", sim.port))
    connection.sendall(raw_request(chat(model, "tokens:5000", stream=stream)))
    await sim.wait_for_outcome(model, "open")
    # Long enough to be inside the wait, or to have filled the socket that the client does not read.
    await asyncio.sleep(0.03)
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    left = time.monotonic()
    connection.close()
    record = await sim.wait_for_outcome(model, "client_closed", AT_ONCE_SECONDS)
    assert record.ended is not None
    assert record.ended - left < AT_ONCE_SECONDS
    assert record.ended - record.started >= 0.03
    assert record.closed_after_ms == pytest.approx((record.ended - record.started) * 1000)
    assert sim.stats()[model] | {"total": 1} == {
        "total": 1,
        "open": 0,
        "completed": 0,
        "client_closed": 1,
        "aborted": 0,
        "followed_redirects": 0,
    }


async def test_client_that_disconnects_in_its_request_is_counted(sim: ProviderSimulator) -> None:
    connection = socket.create_connection(("127.0.0.1", sim.port))
    connection.sendall(raw_request(chat())[:-5])
    await asyncio.sleep(0.03)
    connection.close()
    assert (await sim.wait_for_outcome("", "client_closed")).body == b""


# --- counting


async def test_records_contain_request_without_key(client: httpx.AsyncClient, sim: ProviderSimulator) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    response = await client.post("/chat/completions", json=chat("a", stream=True), headers={"traceparent": parent})
    (record,) = sim.requests("a")
    assert record.id == response.headers["x-request-id"]
    assert (record.path, record.model, record.fault, record.stream) == ("/v1/chat/completions", "a", "ok", True)
    assert (record.outcome, record.status, record.closed_after_ms) == ("completed", 200, None)
    assert record.ended is not None
    assert record.started <= record.ended <= time.monotonic()
    assert (record.authorized, record.credential, record.traceparent) == (True, credential_digest(KEY), parent)
    assert "authorization" in record.header_names
    assert record.body is not None
    assert orjson.loads(record.body) == chat("a", stream=True)
    assert KEY not in repr(record)


async def test_records_are_bounded_and_counters_are_not(client: httpx.AsyncClient, sim: ProviderSimulator) -> None:
    await ask(client, "big", "x" * (2 * KEPT_BODY_BYTES))
    (big,) = sim.requests("big")
    assert (len(big.body or b""), big.body_truncated) == (KEPT_BODY_BYTES, True)
    for _ in range(KEPT_RECORDS):
        await client.post("/embeddings", content=b'{"model": "many", "input": "x", "dimensions": 1}')
    assert sim.requests("big") == []
    assert (sim.count("big"), sim.count("many"), sim.count("none")) == (1, KEPT_RECORDS, 0)
    records = sim.requests()
    assert len(records) == KEPT_RECORDS
    assert sum(record.body is not None for record in records) == KEPT_BODIES
    assert records[-1].body is not None


async def test_admin_over_http(client: httpx.AsyncClient, sim: ProviderSimulator) -> None:
    await ask(client, "a")
    await ask(client, "b")
    await client.post("/chat/completions", content=b"broken")
    async with httpx.AsyncClient(base_url=sim.admin_url) as admin:
        (record,) = (await admin.get("/requests", params={"model": "a"})).json()
        assert (record["body"], record["outcome"]) == (chat("a"), "completed")
        (last,) = (await admin.get("/requests", params={"tail": 1})).json()
        assert last["body"] == "broken"
        stats = (await admin.get("/stats")).json()
        assert set(stats) == {"a", "b", ""}
        assert stats["b"]["total"] == stats["b"]["completed"] == 1
        assert (await admin.post("/reset")).status_code == 200
        assert (await admin.get("/requests")).json() == []
        assert (await admin.get("/stats")).json() == {}
        assert (await admin.get("/nothing")).status_code == 404


async def test_reset_leaves_requests_in_flight_uncounted(client: httpx.AsyncClient, sim: ProviderSimulator) -> None:
    slow = asyncio.create_task(ask(client, "sim-delay-100"))
    await sim.wait_for_outcome("sim-delay-100", "open")
    sim.reset()
    assert (await slow).status_code == 200
    assert sim.stats() == {}
    with pytest.raises(TimeoutError, match=r"seen: \{\}"):
        await sim.wait_for_outcome("sim-delay-100", "completed", 0.01)


async def test_closing_ends_hanging_requests_as_aborted() -> None:
    async with ProviderSimulator() as sim, httpx.AsyncClient(base_url=sim.base_url, headers=AUTH) as http:
        hanging = asyncio.create_task(ask(http, "sim-hang"))
        await sim.wait_for_outcome("sim-hang", "open")
        async with asyncio.timeout(300):
            await sim.aclose()
        with pytest.raises(httpx.RemoteProtocolError):
            await hanging
        assert sim.requests("sim-hang")[0].outcome == "aborted"
