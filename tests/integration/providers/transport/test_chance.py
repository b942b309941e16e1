"""Whatever servers and callers do, every connection's place is freed: the pool never runs out of them."""

import asyncio
import random

import pytest

from platform_app.llm.http.transport.errors import ConnectionLost, IncompleteResponse, ProtocolError, TransportError
from tests.integration.providers.transport.conftest import Run
from tests.support.providers.transport import OK, Client, read, sized, talking, until
from tests.support.servers.network.tcp import read_request

pytestmark = pytest.mark.proof

CONNECTIONS = 8
EXCHANGES = 1500
LARGE = b"x" * 400_000


def whims(chosen: random.Random) -> list[bytes | float | None]:
    """Choose what a server does with a request: write bytes, wait for seconds, or close the connection (None)."""
    good: list[bytes | float | None] = [sized(b"hello")]
    return chosen.choice(
        [
            good, good, good, [sized(LARGE)], [sized(b"hello", b"Connection: close\r\n")],
            [OK + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n", 0.002, b"0\r\n\r\n"],
            [sized(b"hello"), b"surplus"], [None], [OK, None], [OK + b"Content-Length: 9\r\n\r\nhello", None],
            [b"no HTTP\r\n\r\n"], [OK + b"\r\nto the end", None], [0.02, sized(b"late")], [5.0],
            [OK + b"Content-Length: 9\r\n\r\nhello", 5.0],
        ]
    )  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_random_failures_lose_no_connection(run: Run, seed: int) -> None:
    chosen = random.Random(seed)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for whim in whims(chosen):
                if whim is None:
                    return
                if isinstance(whim, float):
                    await asyncio.sleep(whim)
                else:
                    writer.write(whim)
                    await writer.drain()

    async def call(client: Client) -> None:
        """Read all or a part, or time out, or be cancelled at any moment."""
        exchange = await client.send(chosen.choice([b"{}", LARGE]), connect_seconds=0.3)
        try:
            await exchange.head(until(chosen.choice([0.005, 0.05])))
            if chosen.random() < 0.8:
                await read(exchange, chosen.choice([0.005, 0.05]))
        finally:
            exchange.close()

    async def scenario() -> None:
        outcomes: dict[str, int] = {}
        async with talking(serve, connections=CONNECTIONS, keep_seconds=0.05) as client:

            async def caller() -> None:
                for _ in range(EXCHANGES // 30):
                    task = asyncio.ensure_future(call(client))
                    if chosen.random() < 0.2:
                        asyncio.get_running_loop().call_later(chosen.random() * 0.01, task.cancel)
                    (result,) = await asyncio.gather(task, return_exceptions=True)
                    name = type(result).__name__
                    assert result is None or isinstance(result, TransportError | TimeoutError | asyncio.CancelledError)
                    outcomes[name] = outcomes.get(name, 0) + 1

            await asyncio.gather(*(caller() for _ in range(30)))
            # Every place is free: as many requests as the pool has connections can run at once.
            held = [await client.send(connect_seconds=1) for _ in range(CONNECTIONS)]
            for exchange in held:
                exchange.close()
        ends = (TimeoutError, asyncio.CancelledError, ConnectionLost, IncompleteResponse, ProtocolError, type(None))
        expected = {end.__name__ for end in ends}
        assert expected <= outcomes.keys(), outcomes

    run(scenario())
