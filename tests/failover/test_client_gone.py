"""A client that disconnects ends the provider's call at once, whatever the gateway waits for.

Each provider here would wait for minutes, so only the disconnect can end its call. The time on an idle machine is
printed and not checked: `AT_ONCE_SECONDS` is far below every timeout of these tests.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conftest import GENEROUS, Platform
from tests.support.gateway.chat_routes import CHAT, MESSAGES, PLATFORM, RESPONSES, ChatRoute
from tests.support.gateway.http import chat_request, connect, until
from tests.support.gateway.process import Gateway, write_catalog
from tests.support.providers.failover.faulty_provider import Attempt, Call, FaultyProvider
from tests.support.providers.failover.scenarios import no_response, overloaded, slow_first_token, stream_stall

AT_ONCE_SECONDS = 10.0
LARGE = "x" * 6_000_000


async def role_chunk(call: Call) -> None:
    await call.begin_stream()
    await call.words(0, 0)
    await call.silence()


async def error_body(call: Call) -> None:
    await call.send(b"HTTP/1.1 500 X\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
    await call.silence()


async def json_body(call: Call) -> None:
    await call.send(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"id": ')
    await call.silence()


async def flood(call: Call) -> None:
    """Send chunks without an end, so that a client that does not read fills every buffer."""
    await call.begin_stream()
    await call.words(0, 0)
    while True:
        await call.text("x" * 50_000)


@dataclass(frozen=True)
class Phase:
    """What the gateway waits for."""

    model: str
    stream: bool
    reads: bytes = b""
    """What the client has read before it disconnects."""
    reads_nothing: bool = False


PHASES = {
    "head of a response": Phase("silent", stream=False),
    "head of a stream": Phase("silent", stream=True),
    "first token": Phase("slow", stream=True),
    "first token, limited": Phase("limited", stream=True),
    "content after a role chunk": Phase("role", stream=True),
    "next chunk": Phase("stalls", stream=True, reads=b"word19"),
    "rest of a response": Phase("body", stream=False),
    "rest of an error": Phase("error", stream=True),
    "second route": Phase("second", stream=True),
    "slow reader": Phase("flood", stream=True, reads=b"xxxx", reads_nothing=True),
}
ESSENTIAL = ("head of a response", "content after a role chunk", "next chunk", "slow reader")
"""The phases in which a translation could wait for something else than the provider."""
NATIVE = {PLATFORM: "openai", CHAT: "openai", RESPONSES: "openai-responses", MESSAGES: "anthropic"}
CASES = [
    *((phase, route, wire) for phase in PHASES for route, wire in NATIVE.items()),
    *((phase, route, wire) for phase in ESSENTIAL for route, wire in ((RESPONSES, "anthropic"), (MESSAGES, "openai"))),
]
FAULTS = {
    "silent": no_response,
    "slow": slow_first_token,
    "limited": slow_first_token,
    "role": role_chunk,
    "stalls": stream_stall,
    "body": json_body,
    "error": error_body,
    "overloaded": overloaded,
    "flood": flood,
}


@dataclass
class Bare:
    """A server that accepts connections without a TLS handshake, and reads only when the test starts it."""

    connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    port: int = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append((reader, writer))

    async def end_of(self, number: int) -> int:
        """Read a connection to its end, and return the number of bytes."""
        reader, writer = self.connections[number]
        size = 0
        try:
            while data := await reader.read(1 << 20):
                size += len(data)
        except ConnectionError:
            pass
        writer.close()
        return size


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[FaultyProvider]:
    """The faults that never end."""
    async with FaultyProvider(FAULTS) as running:
        yield running


@pytest.fixture(scope="module")
async def bare() -> AsyncIterator[Bare]:
    """Run a server that never sends anything."""
    found = Bare()
    server = await asyncio.start_server(found.accept, "127.0.0.1", 0, limit=64 * 1024)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()
    for _, writer in found.connections:
        writer.close()


@pytest.fixture(scope="module")
def patient(
    platform: Platform, provider: FaultyProvider, bare: Bare, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Run a gateway whose timeouts are minutes."""
    directory = tmp_path_factory.mktemp("patient")
    config = write_catalog(
        directory / "platform.yaml",
        {
            **{
                wire: {"wire_format": wire, "base_url": provider.url_of(wire)}
                for wire in ("openai", "openai-responses", "anthropic")
            },
            "bare": {"base_url": f"http://127.0.0.1:{bare.port}/v1"},
            "bare-tls": {"base_url": f"https://127.0.0.1:{bare.port}/v1"},
        },
        {
            **{f"{wire}/{model}": [(wire, model)] for wire in NATIVE.values() for model in FAULTS},
            **{f"{wire}/second": [(wire, "overloaded"), (wire, "silent")] for wire in NATIVE.values()},
            "reads-nothing": [("bare", "m")],
            "no-handshake": [("bare-tls", "m")],
        },
        route_fields={"limited": {"first_token_seconds": 300}},
        rate_limits=GENEROUS,
        policies={"retry": {"max_attempts": 1}, "breaker": {"minimum_calls": 100_000}},
    )
    environment = {
        **platform.environment,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_DEFAULT_MODEL": "openai/silent",
        "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS": "300",
        "PLATFORM_PROVIDER_CONNECT_TIMEOUT_SECONDS": "60",
        "PLATFORM_PROVIDER_TOTAL_TIMEOUT_SECONDS": "600",
    }
    with Gateway(environment, directory) as running:
        yield running


def body_of(model: str, text: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


@pytest.mark.parametrize(
    ("waits_for", "route", "wire"), [pytest.param(*case, id=f"{case[0]}-{case[1].name}-{case[2]}") for case in CASES]
)
async def test_disconnect_cancels_provider_call(
    waits_for: str, route: ChatRoute, wire: str, patient: Gateway, provider: FaultyProvider, chat_key: str,
    show_figure: Callable[[str], None],
) -> None:  # fmt: skip
    phase = PHASES[waits_for]
    model = "silent" if phase.model == "second" else phase.model
    provider.reset()
    async with connect(patient) as connection:
        body = route.body("hi", model=f"{wire}/{phase.model}", stream=phase.stream)
        await connection.send(chat_request(chat_key, body, "leaves", route.path))
        await until(lambda: len(provider.of(model)) == 1)
        [attempt] = provider.of(model)
        if phase.reads:
            await connection.reader.readuntil(phase.reads)
        await asyncio.sleep(0.3 if phase.reads_nothing else 0.05)  # until the gateway waits
        assert not attempt.client_gone.is_set()
        took = await _seconds_until_gone(connection.writer.transport.abort, attempt)
    show_figure(f"{waits_for}, {route.name} over {wire}: closed after {took * 1000:.1f} ms")


async def test_disconnect_cancels_connecting(patient: Gateway, bare: Bare, chat_key: str) -> None:
    """The TCP connection is open, but the TLS handshake never ends."""
    number = len(bare.connections)
    async with connect(patient) as connection:
        await connection.send(chat_request(chat_key, body_of("no-handshake"), "leaves"))
        await until(lambda: len(bare.connections) > number)
        connection.writer.transport.abort()
        async with asyncio.timeout(AT_ONCE_SECONDS):
            await bare.end_of(number)


async def test_disconnect_cancels_upload(patient: Gateway, bare: Bare, chat_key: str) -> None:
    """The provider does not read the request, so most of it is still in the gateway; that part is never sent."""
    number = len(bare.connections)
    async with connect(patient) as connection:
        await connection.send(chat_request(chat_key, body_of("reads-nothing", LARGE), "leaves"))
        await until(lambda: len(bare.connections) > number)
        await asyncio.sleep(0.2)
        connection.writer.transport.abort()
        await asyncio.sleep(1)
        async with asyncio.timeout(AT_ONCE_SECONDS):
            assert await bare.end_of(number) < len(LARGE)


async def _seconds_until_gone(leave: Callable[[], None], attempt: Attempt) -> float:
    began = time.monotonic()
    leave()
    async with asyncio.timeout(AT_ONCE_SECONDS):
        await attempt.client_gone.wait()
    return time.monotonic() - began
