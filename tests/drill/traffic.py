"""Steady traffic of several clients, from a thread with its own event loop, and what the clients see."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp

TIMEOUT_SECONDS = 60.0
MAX_IN_FLIGHT = 400
"""Per client. Above it a client sends nothing, as one whose connection pool is used up."""


@dataclass(frozen=True)
class Client:
    """A client: its key, what it sends, and how often."""

    name: str
    key: str
    path: str
    body: Mapping[str, Any]
    per_second: float
    address: str = "127.0.0.1"


@dataclass
class Seen:
    """The results of one client's requests: when each ended, and the status, or the error's name without one."""

    results: list[tuple[float, str]] = field(default_factory=list)
    in_flight: int = 0

    def since(self, moment: float) -> list[str]:
        """Return the results of requests that ended after the moment."""
        return [result for at, result in self.results if at >= moment]


class Traffic:
    """Sends the clients' requests from `__enter__` to `__exit__`, at a constant rate whatever the responses."""

    def __init__(self, base_url: str, clients: Sequence[Client]) -> None:
        self._base_url = base_url
        self._clients = list(clients)
        self._seen = {client.name: Seen() for client in clients}
        self._loop = asyncio.new_event_loop()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(TIMEOUT_SECONDS)

    def failures_since(self, moment: float) -> dict[str, int]:
        """Return how many requests failed since the moment, by status or error."""
        found: dict[str, int] = {}
        for seen in self._seen.values():
            for result in seen.since(moment):
                if result != "200":
                    found[result] = found.get(result, 0) + 1
        return found

    def requests_since(self, moment: float) -> int:
        """Return how many requests ended since the moment."""
        return sum(len(seen.since(moment)) for seen in self._seen.values())

    def all_served_since(self, moment: float) -> bool:
        """Return whether each client had a response since the moment, and no failure."""
        return all((results := seen.since(moment)) and set(results) == {"200"} for seen in self._seen.values())

    def send_with(self, client: Client) -> Callable[[], None]:
        """Start another client, which is not among those that must be served. Return the function that stops it."""
        stopped = threading.Event()
        future = asyncio.run_coroutine_threadsafe(self._one_client(client, Seen(), stopped), self._loop)

        def stop() -> None:
            stopped.set()
            future.result(TIMEOUT_SECONDS)

        return stop

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._all_clients())
        self._loop.close()

    async def _all_clients(self) -> None:
        await asyncio.gather(*(self._one_client(each, self._seen[each.name], self._stopped) for each in self._clients))

    async def _one_client(self, client: Client, seen: Seen, stopped: threading.Event) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        connector = aiohttp.TCPConnector(limit=0, local_addr=(client.address, 0))
        tasks: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(self._base_url, timeout=timeout, connector=connector) as session:
            started = time.monotonic()
            for number in itertools.count(1):
                await asyncio.sleep(max(0.0, started + number / client.per_second - time.monotonic()))
                if stopped.is_set():
                    break
                if seen.in_flight < MAX_IN_FLIGHT:
                    task = asyncio.create_task(self._request(session, client, seen))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _request(self, session: aiohttp.ClientSession, client: Client, seen: Seen) -> None:
        seen.in_flight += 1
        headers = {"Authorization": f"Bearer {client.key}"}
        try:
            async with session.post(client.path, json=client.body, headers=headers) as response:
                text = await response.read()
            result = str(response.status)
            if response.status == 200 and b'"error"' in text[-1000:]:
                result = "stream error"
        except (aiohttp.ClientError, TimeoutError) as error:
            result = type(error).__name__
        finally:
            seen.in_flight -= 1
        seen.results.append((time.monotonic(), result))
