"""What a legitimate client, a load balancer and an operator see of a gateway."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx

from tests.attacks.soak.stack import Stack

REQUESTS_PER_SECOND = 20
_PROBE_SECONDS = 0.05
_PAGE = 4096


@dataclass(slots=True)
class Watched:
    """Measurements of some time."""

    request_ms: list[float] = field(default_factory=list)
    probe_ms: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, other: "Watched") -> None:
        """Take over another's measurements."""
        self.request_ms += other.request_ms
        self.probe_ms += other.probe_ms
        self.memory_mb += other.memory_mb
        self.errors += other.errors


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1024 / 1024


@contextmanager
def watching(stack: Stack) -> Iterator[Watched]:
    """Measure until the end of the block, from a thread with its own event loop."""
    watched, stop = Watched(), Event()
    thread = Thread(target=lambda: asyncio.run(_watch(stack, watched, stop)))
    thread.start()
    try:
        yield watched
    finally:
        stop.set()
        thread.join()


async def _watch(stack: Stack, watched: Watched, stop: Event) -> None:
    timeout = httpx.Timeout(20)
    async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client, asyncio.TaskGroup() as group:
        group.create_task(_probe(stack, watched, stop))
        group.create_task(_sample_memory(stack, watched, stop))
        due = time.monotonic()
        while not stop.is_set():
            group.create_task(_request(client, stack, watched))
            due += 1 / REQUESTS_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _request(client: httpx.AsyncClient, stack: Stack, watched: Watched) -> None:
    started = time.perf_counter()
    try:
        response = await client.post(
            stack.gateway.chat_url,
            json={"prompt": "Say hello."},
            headers={"Authorization": f"Bearer {stack.key}"},
        )
    except httpx.HTTPError as error:
        watched.errors.append(f"{type(error).__name__}: {error}")
        return
    watched.request_ms.append(1000 * (time.perf_counter() - started))
    if response.status_code != 200:
        watched.errors.append(f"{response.status_code}: {response.text[:120]}")


async def _probe(stack: Stack, watched: Watched, stop: Event) -> None:
    """Ask /livez over a new connection each time, as load balancers do."""
    request = b"GET /livez HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"
    while not stop.is_set():
        started = time.perf_counter()
        try:
            async with asyncio.timeout(300):
                reader, writer = await asyncio.open_connection("127.0.0.1", stack.gateway.port)
                writer.write(request)
                response = await reader.read()
                writer.close()
            if not response.startswith(b"HTTP/1.1 200"):
                watched.errors.append(f"/livez: {response[:60]!r}")
        except (OSError, TimeoutError) as error:
            watched.errors.append(f"/livez: {type(error).__name__}: {error}")
        watched.probe_ms.append(1000 * (time.perf_counter() - started))
        await asyncio.sleep(_PROBE_SECONDS)


async def _sample_memory(stack: Stack, watched: Watched, stop: Event) -> None:
    worker = stack.worker
    while not stop.is_set():
        watched.memory_mb.append(memory_mb(worker))
        await asyncio.sleep(0.1)
