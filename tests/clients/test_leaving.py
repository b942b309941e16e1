"""Clients that leave or take nothing, and providers that die in the middle, in both contracts, through the gateway: the
provider is let go at once, nothing grows, and the books say what happened."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, Platform
from tests.integration.test_ledger import connected
from tests.support.faults import EXPECTED
from tests.support.gateway import Gateway, write_catalog
from tests.support.http import (
    OPENAI_CHAT,
    PLATFORM_CHAT,
    chat_request,
    connect,
    metric,
    metric_becomes,
    parse_events,
    until,
    workers,
)
from tests.support.servers import Server, read_request

AT_ONCE_SECONDS = 0.1
MESSAGES = [{"role": "user", "content": "Hello"}]
MIB = 1024 * 1024
FOUNTAIN_BYTES = 256 * MIB
BUFFERED_BYTES = 48 * MIB
"""What the kernel's buffers of two connections take at most, generously."""

DYING = sorted({name for name, each in EXPECTED.items() if each.after_deltas} - {"stream-hang", "huge-body"})
"""Of the two left out, one takes a timeout and one a lot of bytes: test_http_faults.py and test_openai_python.py."""


class Fountain:
    """A provider whose stream goes on and on; `poured` is what its connection took."""

    def __init__(self) -> None:
        self.poured = 0
        self.server = Server(self._pour)

    async def _pour(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        delta = {"index": 0, "delta": {"content": "a" * 65536}, "finish_reason": None}
        event = b"data: %b\n\n" % json.dumps({"id": "c", "model": "fountain", "choices": [delta]}).encode()
        while self.poured < FOUNTAIN_BYTES:
            writer.write(event)
            await writer.drain()
            self.poured += len(event)
            await asyncio.sleep(0)


@dataclass(frozen=True)
class House:
    """A gateway with a provider of three slots, and another one that pours."""

    gateway: Gateway
    fountain: Fountain
    key: str
    records: asyncpg.Connection

    async def outcome(self, request_id: str) -> tuple[str, int]:
        """Of the request's only usage record, with its attempts, once it is there."""
        async with asyncio.timeout(5):
            while True:
                rows = await self.records.fetch(
                    "SELECT outcome, attempts FROM usage_records WHERE request_id = $1", request_id
                )
                if rows:
                    assert len(rows) == 1
                    return rows[0]["outcome"], rows[0]["attempts"]
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
async def house(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    directory = tmp_path_factory.mktemp("leaving")
    fountain = Fountain()
    simulated = {
        "slow-first": "sim-slow-first-token-5000@leaving",
        "late": "sim-delay-5000@leaving",
        "trickle": "sim-slow-stream-100@leaving",
        "limited": "sim-rate-limited-2@leaving",
        **{f"dying-{fault}": EXPECTED[fault].model for fault in DYING},
    }
    async with fountain.server, connected(platform.environment["PLATFORM_DATABASE_URL"]) as records:
        config = write_catalog(
            directory / "platform.yaml",
            {
                "capped": {"base_url": simulator.base_url, "max_concurrent": 3},
                "fountain": {"base_url": fountain.server.url},
            },
            {
                "fountain": [("fountain", "fountain")],
                **{name: [("capped", model)] for name, model in simulated.items()},
            },
            rate_limits=GENEROUS,
            policies={"breaker": {"minimum_calls": 100_000}},
        )
        environment = {
            **platform.environment,
            "PLATFORM_CONFIG_FILE": str(config),
            "PLATFORM_DEFAULT_MODEL": "late",
            "PLATFORM_PROVIDER_FIRST_BYTE_TIMEOUT_SECONDS": "6",
            "PLATFORM_PROVIDER_MAX_RESPONSE_BYTES": str(2 * FOUNTAIN_BYTES),
        }
        gateway = Gateway(environment, directory)
        await asyncio.to_thread(gateway.start)
        try:
            yield House(gateway, fountain, platform.key("platform:chat"), records)
        finally:
            await asyncio.to_thread(gateway.stop)


@dataclass(frozen=True)
class Leave:
    """A moment to leave at."""

    model: str
    upstream: str
    stream: bool
    wait_for: bytes = b""
    waits_to_retry: bool = False


LEAVES = {
    "JSON, before the first byte": Leave("late", "sim-delay-5000@leaving", False),
    "JSON, in the middle of the provider's body": Leave("trickle", "sim-slow-stream-100@leaving", False),
    "JSON, in a retry wait": Leave("limited", "sim-rate-limited-2@leaving", False, waits_to_retry=True),
    "stream, before the first token": Leave("slow-first", "sim-slow-first-token-5000@leaving", True),
    "stream, in the middle": Leave("trickle", "sim-slow-stream-100@leaving", True, b'"content":"You '),
    "stream, in a retry wait": Leave("limited", "sim-rate-limited-2@leaving", True, waits_to_retry=True),
}


@pytest.mark.parametrize("path", [PLATFORM_CHAT, OPENAI_CHAT])
@pytest.mark.parametrize("moment", LEAVES)
async def test_a_client_that_leaves(house: House, simulator: ProviderSimulator, path: str, moment: str) -> None:
    leave = LEAVES[moment]
    request_id = f"leaving-{list(LEAVES).index(moment)}-{path.count('platform')}"
    slots = {"name": "platform_provider_slots_in_use", "provider": "capped"}
    simulator.reset()
    async with connect(house.gateway) as connection:
        body = {"model": leave.model, "messages": MESSAGES, "stream": leave.stream}
        await connection.send(chat_request(house.key, body, request_id, path))
        await simulator.wait_for_outcome(leave.upstream, "completed" if leave.waits_to_retry else "open")
        if leave.wait_for:
            await connection.reader.readuntil(leave.wait_for)
        await asyncio.sleep(0.1)
        assert metric(house.gateway.metrics(), **slots) == (0 if leave.waits_to_retry else 1)
        left_at = time.monotonic()
        connection.writer.transport.abort()
        if not leave.waits_to_retry:
            record = await simulator.wait_for_outcome(leave.upstream, "client_closed")
            assert record.ended is not None
            assert record.ended - left_at < AT_ONCE_SECONDS
    line = await asyncio.to_thread(house.gateway.access_line, request_id)
    assert (line["status"], line["reason"], line["provider"]) == (499, "client_closed", "capped")
    await metric_becomes(house.gateway, 0, **slots)
    assert await house.outcome(request_id) == ("client_closed", 1)
    assert simulator.count(leave.upstream) == 1


async def test_the_usage_route_counts_who_left(house: House, platform: Platform, client: httpx.AsyncClient) -> None:
    record, key = platform.new_key("platform:chat")
    async with connect(house.gateway) as connection:
        body = {"model": "trickle", "messages": MESSAGES, "stream": True}
        await connection.send(chat_request(key, body, "leaving-and-counted", OPENAI_CHAT))
        await connection.reader.readuntil(b'"content":"You ')
    await house.outcome("leaving-and-counted")
    answer = await client.get(
        f"{house.gateway.base_url}/v1/platform/usage?key_id={record.key_id}",
        headers={"Authorization": f"Bearer {platform.key('platform:usage:read')}"},
    )
    totals = answer.json()["totals"]
    assert (totals["requests"], totals["client_closed"], totals["errors"]) == (1, 1, 0)
    assert totals["estimated_requests"] == 1
    assert totals["completion_tokens"] > 0


@pytest.mark.parametrize("path", [PLATFORM_CHAT, OPENAI_CHAT])
@pytest.mark.parametrize("fault", DYING)
async def test_a_provider_that_dies_in_the_middle_is_never_silence(
    house: House, client: httpx.AsyncClient, path: str, fault: str
) -> None:
    kind = EXPECTED[fault].stream
    assert kind is not None
    request_id = f"dying-{fault}-{path.count('platform')}"
    answer = await client.post(
        house.gateway.base_url + path,
        headers={"Authorization": f"Bearer {house.key}", "X-Request-ID": request_id},
        json={"model": f"dying-{fault}", "messages": MESSAGES, "stream": True},
    )
    assert answer.status_code == 200
    assert '"content":"' in answer.text
    assert "[DONE]" not in answer.text
    assert answer.text.endswith("\n\n")
    *_, last = answer.text.removesuffix("\n\n").split("\n\n")
    if path == PLATFORM_CHAT:
        assert parse_events(f"{last}\n\n")[0].name == "error"
    error = json.loads(last.rpartition("data: ")[2])["error"]
    assert error["code"] == kind.code
    assert await house.outcome(request_id) == (kind.code, 1)


@pytest.mark.parametrize("path", [PLATFORM_CHAT, OPENAI_CHAT])
async def test_a_slow_reader_slows_the_provider_down(house: House, path: str) -> None:
    house.fountain.poured = 0
    house.fountain.server.closed.clear()
    async with connect(house.gateway) as connection:
        body = {"model": "fountain", "messages": MESSAGES, "stream": True}
        before = _resident_bytes(house.gateway)
        await connection.send(chat_request(house.key, body, f"slow-{path.count('platform')}", path))
        await connection.reader.readuntil(b"aaaa")
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        poured = -1
        async with asyncio.timeout(10):
            while poured != house.fountain.poured:
                poured = house.fountain.poured
                await asyncio.sleep(0.5)
        assert 0 < poured < BUFFERED_BYTES
        assert _resident_bytes(house.gateway) - before < BUFFERED_BYTES
        left_at = time.monotonic()
    await until(house.fountain.server.closed.is_set)
    assert time.monotonic() - left_at < 5 * AT_ONCE_SECONDS


def _resident_bytes(gateway: Gateway) -> int:
    """Of all its workers."""
    pages = [int(Path(f"/proc/{worker}/statm").read_text().split()[1]) for worker in workers(gateway)]
    return sum(pages) * 4096
